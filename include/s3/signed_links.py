"""Signed links that let a browser download an object directly from S3, or upload one, for a few minutes.

Signing sends no request. A signature covers the host, so the signing client must be configured with the
endpoint that the browser uses. Never log a link: it gives access to the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from include.s3.errors import translate_s3_errors
from include.s3.location import S3Location

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


NEW_OBJECT_HEADERS = {"If-None-Match": "*"}
"""Headers that must be sent with the PUT that `sign_upload` signs."""


def sign_download(client: S3Client, location: S3Location, filename: str, seconds: int) -> str:
    """Sign a GET of the object, which the browser saves as `filename`; the link expires after `seconds`."""
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


def sign_upload(client: S3Client, location: S3Location, size: int, seconds: int) -> str:
    """Sign a PUT of an object of exactly `size` bytes that does not replace an existing object."""
    return client.generate_presigned_url(
        "put_object",
        Params={
            "Bucket": location.bucket,
            "Key": location.key,
            "ContentLength": size,
            "IfNoneMatch": NEW_OBJECT_HEADERS["If-None-Match"],
        },
        ExpiresIn=seconds,
    )


def sign_part(
    client: S3Client, location: S3Location, upload_id: str, number: int, size: int, seconds: int
) -> str:
    """Sign a PUT of one part, of exactly `size` bytes, of a multipart upload."""
    return client.generate_presigned_url(
        "upload_part",
        Params={
            "Bucket": location.bucket,
            "Key": location.key,
            "UploadId": upload_id,
            "PartNumber": number,
            "ContentLength": size,
        },
        ExpiresIn=seconds,
    )


def find_origin_of_links(client: S3Client, bucket: str) -> str:
    """Return scheme, host and port of the links that `client` signs for that bucket. Raises StoreErrors."""
    with translate_s3_errors(client, S3Location(bucket, "")):
        link = urlsplit(client.generate_presigned_url("list_objects_v2", Params={"Bucket": bucket}))
    return f"{link.scheme}://{link.netloc}"
