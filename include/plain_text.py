"""Escapes those characters of untrusted text that move the cursor, are invisible, or reverse a line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pydantic import BaseModel

Model = TypeVar("Model", bound="BaseModel")

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters except tab and line feed
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # text direction
    "\u200b\u2060-\u2064\ufeff\u2028\u2029"  # zero-width characters, other line separators
    "\ud800-\udfff]"  # unpaired surrogates, which UTF-8 cannot encode
)

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def escape_controls(text: str) -> str:
    r"""Return the text with hidden and control characters escaped, as in \x1b; keep tabs and line feeds."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def escape_all_controls(value: Any) -> Any:
    """Return a JSON value with every string and every key escaped."""
    match value:
        case str():
            return escape_controls(value)
        case dict():
            return {escape_all_controls(key): escape_all_controls(item) for key, item in value.items()}
        case list():
            return [escape_all_controls(item) for item in value]
    return value


def escape_model(model: Model) -> Model:
    """Return a copy with every string escaped, so that none can manipulate a terminal or page."""
    return type(model).model_validate(escape_all_controls(model.model_dump()))


def is_plain_line(text: str) -> bool:
    """Return whether the text is a single line without hidden or misleading characters."""
    return not ("\n" in text or "\t" in text or _UNSEEN.search(text))


def is_one_line(text: str) -> bool:
    """Return whether the text is a single line, in any script, that UTF-8 and PostgreSQL can store.

    Unlike `is_plain_line`, it allows direction marks, which names in some scripts need.
    """
    return not _CONTROL.search(text)
