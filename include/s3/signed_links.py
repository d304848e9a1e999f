"""Links by which a browser fetches an object from S3 by itself, for a few minutes and without credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.s3.location import S3Location


def download_link(client: S3Client, location: S3Location, filename: str, seconds: int) -> str:
    """Sign a GET of the object, which is saved as `filename`; S3 refuses it after so many seconds.

    Nothing is asked of S3. The signature covers the host of `client`, so its endpoint must be the one that
    the browser uses. Whoever has the link has the file: it is not to be logged.
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
