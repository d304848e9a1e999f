"""Makes values storable in PostgreSQL."""

from __future__ import annotations

import math
from typing import Any

from include.limits import ERROR_BYTES
from include.refusals import shorten


def make_finite(value: Any) -> Any:
    """Return `value` (plain JSON data) with None for every number that is not finite, which jsonb rejects."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: make_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [make_finite(item) for item in value]
    return value


def make_storable(text: str) -> str:
    """Escape characters that PostgreSQL cannot store (NUL and lone surrogates), and shorten the text.

    The text is shortened because every listing includes it.
    """
    storable = text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
    return shorten(storable, ERROR_BYTES)
