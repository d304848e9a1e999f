"""Airflow's S3Hook with clients that cost a tenth of the time to create."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook

if TYPE_CHECKING:
    from boto3.session import Session


class SharedLoaderS3Hook(S3Hook):
    """Lets all sessions of a process read botocore's description of S3 from one loader, which caches it.

    Airflow creates a session for each hook. Left alone, each of them parses megabytes of JSON: 100 ms of the
    API server's processor for each request that needs S3.
    """

    def get_session(self, *arguments: Any, **options: Any) -> Session:
        """Return a session of this connection."""
        session = super().get_session(*arguments, **options)
        own = session._session
        own.register_component("data_loader", _loader(own.get_config_variable("data_path")))
        return session


@cache
def _loader(data_path: str | None) -> Any:
    from botocore.loaders import create_loader

    return create_loader(data_path)
