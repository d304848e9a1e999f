"""Finding abandoned multipart uploads, whose parts are invisible but cost money."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from include.audit.findings import Finding, FindingKind
from include.s3.errors import translate_s3_errors
from include.s3.layout import CHECKPOINTS, MODELS

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.s3.bucket import Bucket
    from include.s3.location import S3Location

ABANDONED = timedelta(days=1)
"""No upload takes a day; an older one was left by a killed process."""


def find_abandoned_uploads(bucket: Bucket, now: datetime, *, repair: bool) -> Iterator[Finding]:
    """Find uploads below checkpoints/ and models/ that were started more than a day ago.

    The repair is to abort them.
    """
    paginator = bucket.client.get_paginator("list_multipart_uploads")
    for prefix in (CHECKPOINTS, MODELS):
        with translate_s3_errors(bucket.client, bucket.at(prefix)):
            for page in paginator.paginate(Bucket=bucket.name, Prefix=prefix):
                for upload in page.get("Uploads", ()):
                    if upload["Initiated"] > now - ABANDONED or not upload["Key"].startswith(prefix):
                        continue
                    location = bucket.at(upload["Key"])
                    done = _abort(bucket.client, location, upload["UploadId"]) if repair else None
                    yield Finding(
                        FindingKind.ABANDONED_UPLOAD,
                        f"A multipart upload to {location.uri} was started at "
                        f"{upload['Initiated']:%Y-%m-%d %H:%M} and was never completed",
                        path=location.uri,
                        repair=done,
                    )


def _abort(client: S3Client, location: S3Location, upload_id: str) -> str:
    try:
        client.abort_multipart_upload(Bucket=location.bucket, Key=location.key, UploadId=upload_id)
    except client.exceptions.NoSuchUpload:
        return "it ended meanwhile"
    return "aborted, its parts are removed"
