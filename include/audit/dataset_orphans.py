"""Finding objects of datasets (uploaded, converted or derived) that no version or job uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from include.audit.orphans import find_known, list_settled, report_orphan
from include.s3.layout import DATASETS, UPLOADS, ConvertedKey, find_derived_dataset, find_upload
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

    find: Callable[[str], str | None]
    """Returns the name of the owner of the object with a key; None if it has no owner of this kind."""
    query: str
    """Name of the statement that finds out which owners exist."""
    absence: str
    """The clause that tells users why an object of this kind is an orphan."""


def _find_content(key: str) -> str | None:
    """Return the fingerprint of the converted dataset to which the object belongs, or None."""
    found = ConvertedKey.parse(key)
    return found.fingerprint if found and found.path is not None else None


_UPLOADS = _Owner(find_upload, "list_known_uploads", "no dataset or job refers to this upload")
_CONTENTS = _Owner(_find_content, "list_known_contents", "no dataset or job has this content")
_DATASETS = _Owner(find_derived_dataset, "list_known_datasets", "no dataset has this content for this task")


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
    matches = [(item, name) for item in page if (name := owner.find(item.location.key)) is not None]
    unknown = {name for _, name in matches} - used
    if unknown:
        with long_transaction(connection):  # the query may read every job
            used |= find_known(connection, owner.query, sorted(unknown))
    for item, name in matches:
        if name not in used:
            yield report_orphan(item, f"{item.location.uri} is an orphan: {owner.absence}")
