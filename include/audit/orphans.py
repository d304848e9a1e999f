"""Finding objects that no row refers to: those of jobs, models and datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from include.audit.findings import AuditFinding, FindingKind
from include.database import fetch_rows
from include.models.objects import find_promoted_model
from include.s3.layout import (
    CHECKPOINT_NAMES,
    CHECKPOINTS,
    DATASETS,
    MODELS,
    PICTURES,
    PRETRAINED,
    PROBE_KEY,
    REPORTS,
    SIGNATURE_SUFFIX,
    UPLOADS,
    ConvertedKey,
    find_derived_dataset,
    find_picture_job,
    find_report_job,
    find_upload,
)
from include.time_limited_connection import long_transaction

if TYPE_CHECKING:
    from psycopg import Connection

    from include.audit.report import AuditReport
    from include.s3.bucket import Bucket
    from include.s3.listing import ListedObject

YOUNG = timedelta(hours=1)
"""An object of a job or a model that is younger than this may still be waiting for its row."""

UNREGISTERED = timedelta(days=1)
"""The same for objects of datasets: a dataset gets its row only after a check."""

_FILES = {
    PICTURES: (find_picture_job, "a picture that a training run draws"),
    REPORTS: (find_report_job, "a report that a check creates"),
}
"""For each prefix of small job files: a function that finds the job's id in a key, and a description."""


@dataclass(frozen=True)
class _Owner:
    """A kind of owner of objects, such as an upload. The key of each object contains its owner's name."""

    find: Callable[[str], str | None]
    """Returns the owner's name from an object's key; None for an object without an owner of this kind."""
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


def find_orphans(
    connection: Connection[Any], bucket: Bucket, now: datetime, report: AuditReport
) -> Iterator[AuditFinding]:
    """Find objects of jobs, models and datasets that no row refers to; never remove any.

    Rows are read after the objects are listed, so that the rows of jobs that start in the meantime are found.
    No row refers to pretrained weights, so these are only counted.
    """
    before = now - YOUNG
    for page in _list_settled(bucket, CHECKPOINTS, before, report):
        yield from _find_unknown_checkpoints(connection, page)
    for page in _list_settled(bucket, MODELS, before, report):
        yield from _find_unknown_models(connection, bucket, page)
    for prefix in _FILES:
        for page in _list_settled(bucket, prefix, before, report):
            yield from _find_unknown_files(connection, prefix, page)
    for page in bucket.list_pages(PRETRAINED):
        report.count_listed(page)
    yield from _find_dataset_orphans(connection, bucket, now - UNREGISTERED, report)


def _find_dataset_orphans(
    connection: Connection[Any], bucket: Bucket, before: datetime, report: AuditReport
) -> Iterator[AuditFinding]:
    """Find objects under uploads/ and datasets/ that no dataset or job uses.

    Some objects are too small to be examined: listings of checked prefixes, records of conversions, and the
    stored datasets of jobs.
    """
    for prefix, owners in ((UPLOADS, (_UPLOADS,)), (DATASETS, (_CONTENTS, _DATASETS))):
        used: dict[_Owner, set[str]] = {owner: set() for owner in owners}
        for page in _list_settled(bucket, prefix, before, report):
            for owner in owners:
                yield from _find_unused(connection, page, owner, used[owner])


def _list_settled(
    bucket: Bucket, prefix: str, before: datetime, report: AuditReport
) -> Iterator[list[ListedObject]]:
    """List the objects below `prefix`, count them in the report, and yield those older than `before`."""
    for page in bucket.list_pages(prefix):
        report.count_listed(page)
        yield [item for item in page if item.modified <= before]


def _find_unknown_checkpoints(
    connection: Connection[Any], page: list[ListedObject]
) -> Iterator[AuditFinding]:
    """Find objects of jobs that do not exist, and objects that are not checkpoints."""
    jobs = find_known(connection, "list_known_jobs", sorted({item.job_id for item in page if item.job_id}))
    for item in page:
        if item.location.key == PROBE_KEY:
            continue
        if item.job_id not in jobs:
            job = f"there is no job {item.job_id!r}" if item.job_id else "it belongs to no job"
            yield _report_orphan(item, f"is an orphan: {job} in training_jobs")
        elif item.name not in CHECKPOINT_NAMES:
            yield _report_orphan(item, "is not a file that a training run creates")


def _find_unknown_files(
    connection: Connection[Any], prefix: str, page: list[ListedObject]
) -> Iterator[AuditFinding]:
    """Find small files of jobs that do not exist."""
    find_job, usual = _FILES[prefix]
    files = [(item, find_job(item.location.key)) for item in page]
    jobs = find_known(connection, "list_known_jobs", sorted({job_id for _, job_id in files if job_id}))
    for item, job_id in files:
        if job_id is None:
            yield _report_orphan(item, f"is not {usual}")
        elif job_id not in jobs:
            yield _report_orphan(item, f"is an orphan: there is no job {job_id!r} in training_jobs")


def _find_unknown_models(
    connection: Connection[Any], bucket: Bucket, page: list[ListedObject]
) -> Iterator[AuditFinding]:
    """Find model files and signatures that no row refers to."""
    files = [bucket.at(item.location.key.removesuffix(SIGNATURE_SUFFIX)) for item in page]
    names = [find_promoted_model(bucket, file) for file in files]
    paths = find_known(connection, "list_known_versions", [file.uri for file in files])
    promoted = find_known(connection, "list_promoted_names", sorted({name for name in names if name}))
    for item, file, name in zip(page, files, names, strict=True):
        if name and name not in promoted:
            yield _report_orphan(item, "is an orphan: no version of that model is in production")
        elif not name and file.uri not in paths:
            yield _report_orphan(item, "is an orphan: no row of model_versions names it")


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
            yield _report_orphan(item, f"is an orphan: {owner.absence}")


def _report_orphan(item: ListedObject, problem: str) -> AuditFinding:
    """Return the finding about an object that no row refers to; `problem` continues a sentence about it."""
    uri = item.location.uri
    return AuditFinding(FindingKind.ORPHAN, f"{uri} {problem}", item.job_id, uri, item.size)


def find_known(connection: Connection[Any], name: str, values: list[str]) -> set[str]:
    """Return those of `values` that the query finds."""
    return {value for (value,) in fetch_rows(connection, name, values=values)}
