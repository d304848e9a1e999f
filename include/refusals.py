"""What pydantic objects to, as one sentence for the person who gave the value."""

from __future__ import annotations

import re
import reprlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

LONGEST_SHOWN = 80
_OTHERS_NAMED = 10


def show_value(value: object, longest: int = LONGEST_SHOWN) -> str:
    """Write a value that somebody gave, in at most so many characters.

    It is never written in full and then cut: a small value can stand for gigabytes, and for a very long
    number Python refuses.
    """
    short = reprlib.Repr()
    short.maxlevel, short.maxlist, short.maxdict = 3, 6, 4
    short.maxstring = short.maxother = short.maxlong = longest
    try:
        text = short.repr(value)
    except (ValueError, RecursionError):
        text = f"<{type(value).__name__}>"
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def shorten(text: str, longest: int) -> str:
    """Return `text` in at most so many bytes of UTF-8, and without what PostgreSQL cannot store."""
    text = text.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= longest:
        return encoded.decode()
    ellipsis = "…"
    return encoded[: longest - len(ellipsis.encode())].decode("utf-8", "ignore") + ellipsis


def first_error_sentence(error: ValidationError, model: type[BaseModel], taker: str) -> str:
    """Say the first thing that is wrong with the parameters of `taker`, and name the other wrong fields."""
    first, *others = error.errors(include_url=False)
    field = _field(first)
    also = sorted({str(other["loc"][0])[:LONGEST_SHOWN] for other in others if other["loc"]} - {field})
    more = f" (also wrong: {', '.join(also[:_OTHERS_NAMED])})" if also else ""
    return f"{_objection(first, model, taker)}{more}"


def error_sentences(error: ValidationError, model: type[BaseModel], taker: str) -> dict[str, str]:
    """Say of each field that is wrong the first thing that is wrong with it."""
    said: dict[str, str] = {}
    for each in error.errors(include_url=False):
        objection = _objection(each, model, taker)
        said.setdefault(str(each["loc"][0]) if each["loc"] else field_of(objection, model), objection)
    return said


def field_of(sentence: str, model: type[BaseModel]) -> str:
    """Return the field that a sentence is about, which begins with its name; "" where it names none."""
    name = re.split(r"[=\s:]", sentence, maxsplit=1)[0]
    return name if name in model.model_fields else ""


def _field(error: ErrorDetails) -> str:
    return ".".join(map(str, error["loc"]))[:LONGEST_SHOWN]


def _objection(error: ErrorDetails, model: type[BaseModel], taker: str) -> str:
    field, value = _field(error), show_value(error["input"])
    match error["type"]:
        case "extra_forbidden":
            return (
                f"{field} is not a parameter of {taker}; its parameters are {', '.join(model.model_fields)}"
            )
        case "string_pattern_mismatch":
            return f"{field}={value} is refused. {field}: {model.model_fields[field].description}"
        case "value_error":
            return str(error["ctx"]["error"])
    return f"{field}={value} is refused: {error['msg'][0].lower()}{error['msg'][1:]}"
