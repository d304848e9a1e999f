"""What pydantic objects to, as one sentence for the person who gave the value."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

LONGEST_SHOWN = 80


def sentence(error: ValidationError, model: type[BaseModel], taker: str) -> str:
    """Say the first thing that is wrong with the parameters of `taker`, and name the other wrong fields."""
    first, *others = error.errors(include_url=False)
    field = ".".join(map(str, first["loc"]))
    also = sorted({str(other["loc"][0]) for other in others if other["loc"]} - {field})
    more = f" (also wrong: {', '.join(also)})" if also else ""
    shown = repr(first["input"])
    if len(shown) > LONGEST_SHOWN:
        shown = f"{shown[: LONGEST_SHOWN - 1]}…"
    match first["type"]:
        case "extra_forbidden":
            known = ", ".join(model.model_fields)
            return f"{field} is not a parameter of {taker}; its parameters are {known}{more}"
        case "string_pattern_mismatch":
            return f"{field}={shown} is refused. {field}: {model.model_fields[field].description}{more}"
        case "value_error":
            return f"{first['ctx']['error']}{more}"
    return f"{field}={shown} is refused: {first['msg'][0].lower()}{first['msg'][1:]}{more}"
