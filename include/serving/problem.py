"""Errors as problem documents (RFC 9457): the response to every request that fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi.responses import JSONResponse
from pydantic import BaseModel

from include.plain_text import escape_controls

if TYPE_CHECKING:
    from collections.abc import Mapping
    from http import HTTPStatus

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """The body of every error response; its media type is application/problem+json."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


def problem(status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return a problem document as a response with that status."""
    body = Problem(title=status.phrase, status=status, detail=escape_controls(detail))
    return JSONResponse(body.model_dump(), status, headers=headers, media_type=MEDIA_TYPE)
