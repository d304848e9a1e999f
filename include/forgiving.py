"""Normalizes values that a form or a JSON library writes differently from what the user meant."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


def drop_blanks(values: Any, fields: Container[str]) -> Any:
    """Return the values without blank strings in `fields`: a blank field of a form means "not given".

    A value that is not a dictionary is returned unchanged, and unknown keys are kept; pydantic refuses both.
    """
    if not isinstance(values, dict):
        return values
    return {name: value for name, value in values.items() if name not in fields or not is_blank(value)}


def as_whole_number(value: Any) -> Any:
    """Return 10 for 10.0, which is the same number in JSON; return any other value unchanged."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def use_whole_numbers(values: Any, fields: Mapping[str, FieldInfo]) -> Any:
    """Return the values, with 10 instead of 10.0 in fields for whole numbers.

    A value that is not a dictionary is returned unchanged; pydantic refuses it.
    """
    if not isinstance(values, dict):
        return values
    whole = {name for name, field in fields.items() if field.annotation in (int, int | None)}
    return {name: as_whole_number(value) if name in whole else value for name, value in values.items()}


def as_text(value: Any) -> Any:
    """Return a whole number as text, such as "0" for 0 and 0.0; return any other value unchanged.

    Use this for fields that contain a name, which may consist of digits.
    """
    value = as_whole_number(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def is_blank(value: object) -> bool:
    """Return whether a value is a blank string."""
    return isinstance(value, str) and not value.strip()
