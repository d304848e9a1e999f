"""The base of all Dags' requests: parses the parameters of a run, or refuses them with an error message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from include.errors import Invalid
from include.forgiving import drop_blanks, use_whole_numbers
from include.refusals import find_first_error


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
