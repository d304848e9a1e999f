"""The deployment's settings and its bucket, as parameters of routes; both are read anew for each request."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from include.deployment.connections import open_bucket
from include.deployment.settings import Settings
from include.s3.bucket import Bucket


async def _read_settings() -> Settings:
    """Read the environment on the event loop, because this is faster than waiting for a thread."""
    return Settings.from_environment()


CurrentSettings = Annotated[Settings, Depends(_read_settings)]
"""Parameter of routes: the settings of this process."""


def _open_bucket(settings: CurrentSettings) -> Bucket:
    return open_bucket(settings, interactive=True)


InteractiveBucket = Annotated[Bucket, Depends(_open_bucket)]
"""Parameter of routes: the deployment's bucket, for small requests to S3 that the user waits for."""
