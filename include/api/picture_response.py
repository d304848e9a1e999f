"""Responses with a picture, which a browser may cache but must revalidate."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import Response

if TYPE_CHECKING:
    from include.s3.bucket import FetchedObject


def answer_picture(picture: FetchedObject, media_type: str) -> Response:
    """Return the response with the picture, or 304 if the browser has cached it."""
    headers = {
        "ETag": picture.etag,
        "Cache-Control": "private, no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    if picture.content is None:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(picture.content, headers=headers, media_type=media_type)
