"""Generates the params of Dags (the form in Airflow's UI, the REST API's schema) from pydantic models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Param

if TYPE_CHECKING:
    from pydantic import BaseModel


def dag_params(model: type[BaseModel]) -> dict[str, Param]:
    """Return one Param for each field of `model`, in the same order.

    Airflow's form renders a field with a flat schema (`type: [T, "null"]`), but shows `anyOf` and `$ref` as
    plain text. Therefore pydantic's schema is flattened. Raises TypeError for a field whose schema has no
    flat form. If the schema has `when_empty` (the meaning of null, see include.jobs.parameter_schema), this
    text is appended to the description, and `about` is the description without it.
    """
    schema = model.model_json_schema()
    return {name: _build_param(name, field) for name, field in schema["properties"].items()}


def _build_param(name: str, field: dict[str, Any]) -> Param:
    default = field.pop("default", None)
    description = field.pop("description", None)
    field.pop("title", None)
    if "when_empty" in field:
        field["about"] = description
        description = f"{description} Default: {field['when_empty']}."
    return Param(default, description=description, title=name, **_flatten(name, field))


def _flatten(name: str, field: dict[str, Any]) -> dict[str, Any]:
    branches = field.pop("anyOf", None)
    if branches is not None:
        values = [branch for branch in branches if branch.get("type") != "null"]
        if len(values) != 1 or len(branches) != 2:
            raise TypeError(f"{name}: only `T | None` has a flat schema, not {branches}")
        (value,) = values
        field |= value | {"type": field.get("type", [value["type"], "null"])}
        # A blank string means "not given", like null. The REST API must accept every value that the pydantic
        # model accepts.
        if "enum" in value:
            field["enum"] = [*value["enum"], "", None]
            field["values_display"] = {"null": "(not set)", "": "(blank)"}
        if "pattern" in value:
            field["pattern"] = rf"^\s*$|{value['pattern']}"
    if "$ref" in field or "type" not in field:
        raise TypeError(f"{name}: its schema {field} has no flat form")
    return field
