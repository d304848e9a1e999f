"""A new S3 server, which on a busy machine needs half a minute before it can store bytes."""

from __future__ import annotations

from contextlib import suppress

from botocore.exceptions import BotoCoreError, ClientError

from include.stack.s3 import S3
from tests.support.waiting import until

_BUCKET = "test-first-write"


def wait_until_storing(s3: S3) -> None:
    """Wait until the server stores an object; it answers other requests earlier."""
    client = s3.client()
    s3.ensure_bucket(_BUCKET)

    def stores() -> bool:
        with suppress(BotoCoreError, ClientError):
            client.put_object(Bucket=_BUCKET, Key="x", Body=b"x")
            return True
        return False

    until(stores, "the S3 server stores an object")
    client.delete_object(Bucket=_BUCKET, Key="x")
    client.delete_bucket(Bucket=_BUCKET)
