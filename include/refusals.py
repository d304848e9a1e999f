"""Turns pydantic's validation errors into sentences for the user who entered the values."""

from __future__ import annotations

import re
import reprlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

LONGEST_SHOWN = 80
_OTHERS_NAMED = 10


def show_value(value: object, longest: int = LONGEST_SHOWN) -> str:
    """Return the repr of a user's value, in at most `longest` characters.

    The full repr of a text or collection is never built, because a small value can expand to gigabytes.
    For a number that is too long for Python to convert to text, the name of its type is returned.
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
    """Return `text` in at most `longest` bytes of UTF-8, without characters that PostgreSQL cannot store."""
    text = text.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= longest:
        return encoded.decode()
    ellipsis = "…"
    return encoded[: longest - len(ellipsis.encode())].decode("utf-8", "ignore") + ellipsis


def list_some(names: Sequence[object], most: int) -> str:
    """Return the first `most` names, separated by commas, and an ellipsis if there are more."""
    return ", ".join(map(str, names[:most])) + (", …" if len(names) > most else "")


def first_error_sentence(error: ValidationError, model: type[BaseModel], taker: str) -> str:
    """Return a sentence about the first error, followed by the names of other wrong fields.

    taker is the name of the Dag or setting whose parameters are wrong.
    """
    first, *others = error.errors(include_url=False)
    field = _field(first)
    also = sorted({str(other["loc"][0])[:LONGEST_SHOWN] for other in others if other["loc"]} - {field})
    more = f" (also wrong: {', '.join(also[:_OTHERS_NAMED])})" if also else ""
    return f"{_objection(first, model, taker)}{more}"


def error_sentences(error: ValidationError, model: type[BaseModel], taker: str) -> dict[str, str]:
    """Return a sentence about the first error of each wrong field, by the field's name."""
    sentences: dict[str, str] = {}
    for detail in error.errors(include_url=False):
        objection = _objection(detail, model, taker)
        field = str(detail["loc"][0]) if detail["loc"] else field_of(objection, model)
        sentences.setdefault(field, objection)
    return sentences


def field_of(sentence: str, model: type[BaseModel]) -> str:
    """Return the name of the field with which a sentence starts; "" if it starts with anything else."""
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
