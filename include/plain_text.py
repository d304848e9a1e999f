"""Texts of strangers on a screen: no character in them moves the cursor, hides, or turns the line around."""

from __future__ import annotations

import re
from typing import Any

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, but tab and line feed
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction of writing
    "\u200b\u2060-\u2064\ufeff\u2028\u2029"  # without width, and other ends of a line
    "\ud800-\udfff]"  # halves of a pair, which no text can hold
)

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def escape_controls(text: str) -> str:
    r"""Write each such character as Python does, \x1b or \u202e; tabs and line feeds stay as they are."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def escape_all_controls(value: Any) -> Any:
    """Return JSON, or what becomes JSON, with every text and every key escaped."""
    match value:
        case str():
            return escape_controls(value)
        case dict():
            return {escape_all_controls(key): escape_all_controls(each) for key, each in value.items()}
        case list():
            return [escape_all_controls(each) for each in value]
    return value


def is_plain_line(text: str) -> bool:
    """Tell whether the text is one line that is what it seems to be."""
    return not ("\n" in text or "\t" in text or _UNSEEN.search(text))


def is_one_line(text: str) -> bool:
    """Tell whether text in any script is one line that UTF-8 and PostgreSQL can hold.

    Unlike `is_plain_line` it allows marks of direction, which names in some scripts need.
    """
    return not _CONTROL.search(text)
