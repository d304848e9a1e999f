"""Finding out whether the S3 server refuses writes whose conditions do not hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from include.audit.findings import Finding, FindingKind

if TYPE_CHECKING:
    from include.s3.conditional_writes import ConditionalWrites


def find_unfenced(bucket: str, found: ConditionalWrites | None) -> Iterator[Finding]:
    """Find the kinds of writes whose conditions the server does not honour; none if nothing was probed."""
    for problem in found.problems() if found else ():
        yield Finding(
            FindingKind.UNFENCED,
            f"The server of bucket {bucket} does not refuse {problem}: processes that work on one job at the "
            "same time can overwrite or delete each other's state. Use a server that honours If-Match and "
            "If-None-Match",
            path=f"s3://{bucket}",
        )
