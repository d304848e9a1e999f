"""Fields for parameters; their schema also says in which section of a form they are, and what null means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

if TYPE_CHECKING:
    from pydantic.config import JsonDict, JsonValue


def nullable(
    section: str,
    description: str,
    *,
    default: JsonValue = None,
    default_by_task: dict[str, JsonValue] | None = None,
    when_empty: str | None = None,
    types: list[JsonValue] | None = None,
    **bounds: Any,
) -> Any:
    """Return the field of a parameter that is null unless it is given.

    Forms and pages read its schema, and do not parse its description. `default` is the value that null means;
    if it depends on the task, `default_by_task` has the values. `when_empty` describes null in words; without
    it, forms show `default`. `types` are the JSON types that are accepted, if the field's own type has fewer.
    `bounds` are those of pydantic's Field.
    """
    schema: JsonDict = {"section": section}
    if default is not None:
        schema |= {"effective_default": default, "when_empty": f"{default}"}
    if default_by_task is not None:
        schema["effective_default_by_task"] = {**default_by_task}
    if when_empty is not None:
        schema["when_empty"] = when_empty
    if types is not None:
        schema["type"] = types
    return Field(None, description=description, json_schema_extra=schema, **bounds)
