"""How the connection to S3 behaves when the network does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from botocore.config import Config


def client_config() -> Config:
    """Time-outs and retries for uploads of hundreds of megabytes, for S3Hook or boto3.client(config=…).

    Six attempts back off for half a minute at most, which outlasts a restart of the server. Checksums of our
    own are sent and checked anyway, so botocore adds none: not every S3 server knows those it would choose.
    """
    from botocore.config import Config

    return Config(
        connect_timeout=10,
        read_timeout=120,  # what S3 copies itself, up to 5 GiB, it answers only when it is done
        retries={"mode": "standard", "total_max_attempts": 6},
        tcp_keepalive=True,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


def interactive_config() -> Config:
    """For small requests that a person waits for: two attempts, of some seconds each."""
    from botocore.config import Config

    return Config(
        connect_timeout=3,
        read_timeout=5,
        retries={"mode": "standard", "total_max_attempts": 2},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
