"""Settings of S3 clients: time-outs and retries, and how links are signed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from botocore.config import Config

CONNECTIONS = 32
"""Size of the connection pool: enough to fetch many small objects despite a long round-trip time."""

PARALLEL_REQUESTS = 8
"""Requests to send at a time: fewer than the connections in any client's pool (botocore's default: 10)."""


def build_client_config() -> Config:
    """Return time-outs and retries for uploads of hundreds of megabytes.

    Pass the result to S3Hook or boto3.client as `config`. The pauses between six attempts last up to half a
    minute in total, which outlasts a restart of the server. We send our own SHA-256, which the signature
    covers and the server verifies. So botocore need not hash each body again. It would also add a kind of
    checksum that not every S3 server supports.
    """
    from botocore.config import Config

    return Config(
        s3={"payload_signing_enabled": False},
        connect_timeout=10,
        read_timeout=120,  # S3 responds to a copy (of up to 5 GiB) only once the copy is complete
        retries={"mode": "standard", "total_max_attempts": 6},
        tcp_keepalive=True,
        max_pool_connections=CONNECTIONS,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


def build_signing_config(endpoint: str | None) -> Config:
    """Return the settings for a client that only signs links for S3 at `endpoint` (None: Amazon's).

    Only Amazon's endpoint gives each bucket a DNS name; with any other endpoint, the bucket is in the path.
    """
    from botocore.config import Config

    # Not "auto": Amazon's global endpoint redirects to the bucket's region, where the signature is invalid
    return Config(
        signature_version="s3v4",
        s3={"addressing_style": "path" if endpoint else "virtual"},
        # By default, the link of a PUT would be valid only for an empty body.
        request_checksum_calculation="when_required",
    )


def build_interactive_config() -> Config:
    """Return time-outs for small requests that a person waits for: two attempts of a few seconds each."""
    from botocore.config import Config

    return Config(
        connect_timeout=3,
        read_timeout=5,
        retries={"mode": "standard", "total_max_attempts": 2},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
