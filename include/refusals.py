"""Turns pydantic's validation errors into sentences for the user who entered the values."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

LONGEST_SHOWN = 80
_OTHERS_NAMED = 10


class FieldError(ValueError):
    """A wrong value.

    A validator that reads several fields must name the field to correct, with `about`.
    """

    field = ""
    """Empty if the error concerns no single field."""

    def about(self, field: str) -> Self:
        """Name the field to correct; return the error."""
        self.field = field
        return self


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
    except ValueError:
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


def find_first_error(error: ValidationError, model: type[BaseModel], taker: str) -> FieldError:
    """Return the first error; its sentence ends with the names of other wrong fields.

    `taker` is the name of the Dag or setting that takes the parameters.
    """
    (field, sentence), *others = describe_errors(error, model, taker).items()
    also = sorted(name[:LONGEST_SHOWN] for name, _ in others)
    more = f" (also wrong: {', '.join(also[:_OTHERS_NAMED])})" if also else ""
    return FieldError(f"{sentence}{more}").about(field)


def describe_errors(error: ValidationError, model: type[BaseModel], taker: str) -> dict[str, str]:
    """Map each wrong field to a sentence about its first error; the key is "" if no single field is wrong."""
    sentences: dict[str, str] = {}
    for found in error.errors(include_url=False):
        field = found["loc"][0] if found["loc"] else getattr(found.get("ctx", {}).get("error"), "field", "")
        sentences.setdefault(str(field), describe_error(found, model, taker))
    return sentences


def describe_error(error: ErrorDetails, model: type[BaseModel], taker: str) -> str:
    """Return a sentence about one error; the message of a custom validator already names its field."""
    field, value = format_path(error["loc"]), show_value(error["input"])
    match error["type"]:
        case "extra_forbidden":
            return (
                f"{field} is not a parameter of {taker}; its parameters are {', '.join(model.model_fields)}"
            )
        case "string_pattern_mismatch":
            return f"{field}={value} is refused. {field}: {model.model_fields[field].description}"
        case "value_error":
            return str(error["ctx"]["error"])
    return f"{field or 'it'}={value} is refused: {error['msg'][0].lower()}{error['msg'][1:]}"


def format_path(place: Sequence[object]) -> str:
    """Return the path of a wrong field, such as `gate.metric`, from the place that pydantic reports."""
    return ".".join(map(str, place))[:LONGEST_SHOWN]
