"""Additional schema of a parameter: its section in forms, and the meaning of null."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic.config import JsonDict, JsonValue


def parameter(
    section: str,
    *,
    default: JsonValue = None,
    default_by_task: dict[str, JsonValue] | None = None,
    when_empty: str | None = None,
) -> JsonDict:
    """Return the keywords for `json_schema_extra`; forms and pages read them instead of the description.

    default is the value that null stands for; if that depends on the task, default_by_task has the values.
    when_empty describes null in words; without it, forms show `default`.
    """
    schema: JsonDict = {"section": section}
    if default is not None:
        schema |= {"effective_default": default, "when_empty": f"{default}"}
    if default_by_task is not None:
        schema["effective_default_by_task"] = {**default_by_task}
    if when_empty is not None:
        schema["when_empty"] = when_empty
    return schema
