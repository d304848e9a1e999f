"""What a parameter's schema says beside its type: its section of the form, and what null stands for."""

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

    default is the value that means the same as null, and default_by_task is that value where it depends on
    the task. when_empty says in words what null means, by default the value itself.
    """
    schema: JsonDict = {"section": section}
    if default is not None:
        schema |= {"effective_default": default, "when_empty": f"{default}"}
    if default_by_task is not None:
        schema["effective_default_by_task"] = {**default_by_task}
    if when_empty is not None:
        schema["when_empty"] = when_empty
    return schema
