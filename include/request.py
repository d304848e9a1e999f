"""The base of all Dags' requests: parses the parameters of a run, or refuses them with an error message.

Values that a form or a JSON library writes differently from what the user meant are normalized first.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from include.errors import Invalid
from include.refusals import find_first_error

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


class RequestRefused(Invalid):
    """The parameters of a run are invalid."""


class Request(BaseModel):
    """Parameters of a Dag run. The form in Airflow's UI is generated from the subclass."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, regex_engine="python-re")

    dag_id: ClassVar[str]
    """Name of the Dag, for error messages."""

    @model_validator(mode="before")
    @classmethod
    def _use_whole_numbers(cls, values: Any) -> Any:
        return use_whole_numbers(values, cls.model_fields)

    @classmethod
    def parse(cls, conf: Mapping[str, Any] | None) -> Self:
        """Validate the `conf` of a run. Raises RequestRefused, which names the wrong field and its value.

        Pass the conf, not the run's `params`: only the conf contains unknown keys, which must be refused.
        """
        try:
            return cls.model_validate(dict(conf or {}))
        except ValidationError as error:
            raise RequestRefused(str(find_first_error(error, cls, cls.dag_id))) from None


class LenientRequest(Request):
    """Parameters of a Dag run in which a blank field of the form means "not given"."""

    @model_validator(mode="before")
    @classmethod
    def _drop_blanks(cls, values: Any) -> Any:
        return drop_blanks(values, cls.model_fields)


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
