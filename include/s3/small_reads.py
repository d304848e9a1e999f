"""Reads many small objects with obstore, a Rust client that needs a third of botocore's processor time.

obstore is only an optimization. If it cannot read an object, the caller reads that object with boto3, so an
error in obstore never decides whether a dataset is accepted.
"""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from obstore.store import ClientConfig, S3Credential, S3Store

log = logging.getLogger(__name__)

LARGEST = 1024**2
"""Maximum size of a read, in bytes. For larger reads, the client's processor time hardly matters."""

_MOST_FAILURES = 3
"""After this many failures in a row, boto3 reads everything."""
_CREDENTIALS_LAST = timedelta(minutes=10)
"""Credentials from botocore are valid for at least this long, because botocore renews them earlier."""


class SmallReads:
    """Reads with the endpoint, region and credentials of a boto3 client; threads may share an instance.

    Nothing is read with obstore if the client has settings that obstore lacks. Some of these settings, for
    example custom CA certificates, cannot be detected here; obstore's requests then fail.
    """

    def __init__(self, client: S3Client) -> None:
        # Imported here, because several threads cannot import these modules at the same time.
        import obstore.exceptions  # noqa: F401
        import obstore.store  # noqa: F401

        self._client = client
        self._failures = 0 if _is_supported(client) else _MOST_FAILURES
        self._store = cache(self._open)

    def read(self, bucket: str, key: str, etag: str, start: int, stop: int) -> bytes | None:
        """Return bytes `start` to `stop` - 1 of the object with that ETag; None if boto3 has to read them."""
        if self._failures >= _MOST_FAILURES or stop - start > LARGEST or os.getpid() != _get_first_process():
            return None
        from obstore.exceptions import BaseError

        try:
            answer = self._store(bucket).get(key, options={"if_match": etag, "range": (start, stop)})
            content = bytes(answer.bytes())
        except (BaseError, OSError, ValueError) as error:  # ValueError, e.g. if the key has an empty segment
            self._failures += 1
            if self._failures == _MOST_FAILURES:
                log.info("boto3 now reads small objects, because obstore could not: %s", error)
            return None
        self._failures = 0
        return content if len(content) == stop - start else None

    def _open(self, bucket: str) -> S3Store:
        from obstore.store import S3Store

        endpoint = self._client.meta.endpoint_url
        options: ClientConfig = {
            "allow_http": endpoint.startswith("http:"),
            "connect_timeout": timedelta(seconds=10),
            "read_timeout": timedelta(seconds=20),
            "timeout": timedelta(hours=1),  # for the whole response, which may be slow
        }
        return S3Store(
            bucket,
            endpoint=endpoint,
            region=self._client.meta.region_name,
            virtual_hosted_style_request=False,
            credential_provider=self._read_credentials,
            client_options=options,
            retry_config={"max_retries": 0},
        )

    def _read_credentials(self) -> S3Credential:
        found = _find_credentials(self._client).get_frozen_credentials()
        return {
            "access_key_id": found.access_key,
            "secret_access_key": found.secret_key,
            "token": found.token,
            "expires_at": datetime.now(UTC) + _CREDENTIALS_LAST,
        }


def _is_supported(client: S3Client) -> bool:
    config: Any = client.meta.config
    return (
        config.signature_version == "s3v4"
        and not config.proxies
        and client.meta.region_name is not None
        and _find_credentials(client) is not None
    )


def _find_credentials(client: Any) -> Any:
    return client._get_credentials()  # as boto3.crt does


@cache
def _get_first_process() -> int:
    """Return the id of the first process that reads small objects.

    Only that process has obstore's threads; a read in a forked process would hang.
    """
    return os.getpid()
