"""What pydantic objects to, as one sentence for the person who gave the value."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

LONGEST_SHOWN = 80
_OTHERS_NAMED = 10


def shown(value: object, longest: int = LONGEST_SHOWN) -> str:
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


def sentence(error: ValidationError, model: type[BaseModel], taker: str) -> str:
    """Say the first thing that is wrong with the parameters of `taker`, and name the other wrong fields."""
    first, *others = error.errors(include_url=False)
    field = ".".join(map(str, first["loc"]))[:LONGEST_SHOWN]
    also = sorted({str(other["loc"][0])[:LONGEST_SHOWN] for other in others if other["loc"]} - {field})
    more = f" (also wrong: {', '.join(also[:_OTHERS_NAMED])})" if also else ""
    value = shown(first["input"])
    match first["type"]:
        case "extra_forbidden":
            known = ", ".join(model.model_fields)
            return f"{field} is not a parameter of {taker}; its parameters are {known}{more}"
        case "string_pattern_mismatch":
            return f"{field}={value} is refused. {field}: {model.model_fields[field].description}{more}"
        case "value_error":
            return f"{first['ctx']['error']}{more}"
    return f"{field}={value} is refused: {first['msg'][0].lower()}{first['msg'][1:]}{more}"
