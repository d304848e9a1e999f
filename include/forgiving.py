"""What a person meant by a value that a form or a JSON library has written in another way."""

from __future__ import annotations

from collections.abc import Container
from typing import Any


def drop_blanks(values: Any, fields: Container[str]) -> Any:
    """Drop the fields that hold an empty text: an emptied field of a form means "not given".

    What is no dictionary is returned as it is, and unknown keys are kept, for pydantic to refuse both.
    """
    if not isinstance(values, dict):
        return values
    return {name: value for name, value in values.items() if name not in fields or not is_blank(value)}


def as_whole_number(value: Any) -> Any:
    """Return 10 for 10.0, which is the same in JSON; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def as_text(value: Any) -> Any:
    """Return "0" for 0 and 0.0, where a number names something; anything else as it is."""
    value = as_whole_number(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def is_blank(value: object) -> bool:
    """Tell whether a value is a text with nothing in it."""
    return isinstance(value, str) and not value.strip()
