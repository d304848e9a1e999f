"""Cursor pagination of long lists.

A cursor holds the position of a page's last row, not a number of rows to skip. Therefore every page costs the
same. Rows that are added between two requests shift no other row to another page.
"""

from __future__ import annotations

import base64
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import Field
from pydantic_core import from_json, to_json

from include.api.problems import ProblemError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

LARGEST_PAGE = 200

Limit = Annotated[int, Field(ge=1, le=LARGEST_PAGE, description="Maximum number of entries per page.")]
Cursor = Annotated[str, Field(max_length=2000, description="The `next` of the previous page.")]

Position = TypeVar("Position")


def encode_cursor(*position: str | int) -> str:
    """Encode the position of a row in its list as an opaque string."""
    return base64.urlsafe_b64encode(to_json(position)).decode()


def decode_cursor(cursor: str | None, kind: TypeAdapter[Position]) -> Position | None:
    """Decode the position in a cursor; None for the first page. Raises ProblemError."""
    if cursor is None:
        return None
    try:
        return kind.validate_python(from_json(base64.urlsafe_b64decode(cursor)))
    except ValueError:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"cursor={cursor!r:.80} was not issued by this API; omit it to start from the first page",
        ) from None
