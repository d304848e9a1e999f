"""Signed links with which a browser downloads an object directly from S3, for a few minutes."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from include.s3.errors import translate_s3_errors
from include.s3.location import S3Location

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def download_link(client: S3Client, location: S3Location, filename: str, seconds: int) -> str:
    """Sign a GET of the object, which is saved as `filename`; the link expires after `seconds`.

    This sends no request. The signature covers the host of `client`, so its endpoint must be the one that the
    browser uses. Never log the link: it gives access to the file.
    """
    return client.generate_presigned_url(
        "get_object",
        Params={
            "Bucket": location.bucket,
            "Key": location.key,
            "ResponseContentDisposition": f'attachment; filename="{filename}"',
        },
        ExpiresIn=seconds,
        HttpMethod="GET",
    )


def origin_of_links(client: S3Client, bucket: str) -> str:
    """Return scheme, host and port of the links that `client` signs for that bucket. This sends no request.

    Raises StoreErrors.
    """
    with translate_s3_errors(client, S3Location(bucket, "")):
        link = urlsplit(client.generate_presigned_url("list_objects_v2", Params={"Bucket": bucket}))
    return f"{link.scheme}://{link.netloc}"
