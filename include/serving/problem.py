"""Errors as problem documents (RFC 9457): the response to every request that fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from include.plain_text import escape_controls

if TYPE_CHECKING:
    from collections.abc import Mapping
    from http import HTTPStatus

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """The body of every error response; its media type is application/problem+json."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    type: str = "about:blank"
    """A URI for the type of problem; `about:blank` if the status says enough."""
    title: str
    """The name of the status, such as Not Found."""
    status: int
    """The HTTP status."""
    detail: str
    """What is wrong, and what to do about it."""


def build_problem(status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return a problem document as a response with that status."""
    body = Problem(title=status.phrase, status=status, detail=escape_controls(detail))
    return JSONResponse(body.model_dump(), status, headers=headers, media_type=MEDIA_TYPE)
