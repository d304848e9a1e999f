"""Finding objects of datasets (uploaded, converted or derived) that no version or job uses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from include.audit.orphans import find_known, list_settled, report_orphan
from include.s3.layout import DATASETS, UPLOADS
from include.time_limited_connection import long_transaction

if TYPE_CHECKING:
    from psycopg import Connection

    from include.audit.findings import AuditFinding
    from include.audit.report import AuditReport
    from include.s3.bucket import Bucket
    from include.s3.listing import ListedObject

UNREGISTERED = timedelta(days=1)
"""Objects older than this must belong to a row. A younger uploaded or converted dataset may still be waiting
for its check, after which it gets a row."""


@dataclass(frozen=True)
class _Owner:
    """A kind of owner of objects, such as an upload. The key of each object contains its owner's name."""

    key: re.Pattern[str]
    """Matches the start of an object's key; its group captures the owner's name."""
    query: str
    """Name of the statement that finds out which owners exist."""
    absence: str
    """The clause that tells users why an object of this kind is an orphan."""


_UPLOADS = _Owner(
    re.compile(rf"{UPLOADS}([^/]+)/"), "list_known_uploads", "no dataset or job refers to this upload"
)
_CONTENTS = _Owner(
    re.compile(rf"{DATASETS}([0-9a-f]{{64}})/"),
    "list_known_contents",
    "no dataset or job has this content",
)
_DATASETS = _Owner(
    re.compile(rf"{DATASETS}(?:manifests|differences|reports|samples)/([0-9a-f]{{64}}-[a-z]+)[./]"),
    "list_known_datasets",
    "no dataset has this content for this task",
)


def find_dataset_orphans(
    connection: Connection[Any], bucket: Bucket, now: datetime, report: AuditReport
) -> Iterator[AuditFinding]:
    """Find objects under uploads/ and datasets/ that nothing uses; never remove any.

    Listings of checked prefixes, records of conversions, and the stored datasets of jobs are not examined,
    because they are small.
    """
    for prefix, owners in ((UPLOADS, (_UPLOADS,)), (DATASETS, (_CONTENTS, _DATASETS))):
        used: dict[_Owner, set[str]] = {owner: set() for owner in owners}
        for page in list_settled(bucket, prefix, now - UNREGISTERED, report):
            for owner in owners:
                yield from _find_unused(connection, page, owner, used[owner])


def _find_unused(
    connection: Connection[Any], page: list[ListedObject], owner: _Owner, used: set[str]
) -> Iterator[AuditFinding]:
    """Yield a finding for each object of `page` whose owner does not exist; add existing owners to `used`."""
    matches = [(item, match[1]) for item in page if (match := owner.key.match(item.location.key))]
    unknown = {name for _, name in matches} - used
    if unknown:
        with long_transaction(connection):  # the query may read every job
            used |= find_known(connection, owner.query, sorted(unknown))
    for item, name in matches:
        if name not in used:
            yield report_orphan(item, f"{item.location.uri} is an orphan: {owner.absence}")
