"""The deployment's settings and its bucket, as parameters of routes; both are read anew for each request."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends

from include.deployment.connections import create_s3_client
from include.deployment.settings import Settings
from include.s3.bucket import Bucket

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class _BucketOnDemand(Bucket):
    """Connects to S3 for the first request to the bucket.

    FastAPI calls a route's dependencies before it checks the route's other parameters. If the bucket were
    opened there, an invalid request would get 503 instead of 404 or 422 whenever S3 cannot be reached.
    """

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "name", name)

    @cached_property
    def client(self) -> S3Client:
        return create_s3_client(interactive=True)


async def _read_settings() -> Settings:
    """Read the environment on the event loop, because this is faster than waiting for a thread."""
    return Settings.from_environment()


CurrentSettings = Annotated[Settings, Depends(_read_settings)]
"""Parameter of routes: the settings of this process."""


async def _prepare_bucket(settings: CurrentSettings) -> Bucket:
    return _BucketOnDemand(settings.bucket)


InteractiveBucket = Annotated[Bucket, Depends(_prepare_bucket)]
"""Parameter of routes: the deployment's bucket, for small requests to S3 that the user waits for."""
