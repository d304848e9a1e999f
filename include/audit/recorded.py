"""The objects that rows refer to: listing them, and comparing them with the objects in S3."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from include.audit.findings import AuditFinding, FindingKind
from include.checkpoints.checkpoint import CHECKPOINT_KINDS, CheckpointKind
from include.checkpoints.stored import find_checkpoint
from include.database import Statements, fetch_rows
from include.jobs.recorded_checkpoint import RecordedCheckpoint
from include.models.objects import locate_production, locate_signature
from include.s3.errors import BucketMissing, CorruptObject, ObjectNotFound, StoreError, StoreRefusal
from include.s3.location import S3Location
from include.s3.reading import head_object, read_object

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from psycopg import Connection

    from include.s3.bucket import Bucket

log = logging.getLogger(__name__)

RecordedKind = Literal[CheckpointKind, "version", "production", "signature", "production_signature"]

PAGE_ROWS = 200

_READS = 2
"""Number of attempts to read an object. If the connection breaks at each of them, the object's bytes may be
damaged on the server."""


@dataclass(frozen=True)
class RecordedObject:
    """An object that a row refers to, as that row describes it.

    The object is a job's best.pt or last.pt, a model version's best.pt, or the signature of that file.
    """

    kind: RecordedKind
    """`version` is a version's own file; `production` is the copy that deployments read."""
    path: str
    """The s3:// URI in the row."""
    sha256: str
    """Hash of the whole file."""
    size: int | None
    """Size in bytes; None if the row does not have it."""
    job_id: str
    """The job that trained the file."""
    name: str | None = None
    """Name of the model; None for a job's checkpoint."""
    version: int | None = None
    """Number of the version; None for a job's checkpoint."""

    def __str__(self) -> str:
        if self.name is None:
            return f"job {self.job_id}"
        where = ", in production," if self.is_in_production else ""
        return f"version {self.version}{where} of model {self.name}"

    @property
    def is_in_production(self) -> bool:
        """Whether the object is a copy that deployments read."""
        return self.kind in {"production", "production_signature"}

    def make_finding(self, kind: FindingKind, detail: str) -> AuditFinding:
        """Return a finding about this object."""
        return AuditFinding(kind, detail, self.job_id, self.path, self.size)


def list_job_objects(row: Any) -> list[RecordedObject]:
    """Return the objects whose hash is in the job's row; rows of a host application have no hashes."""
    named = ((kind, RecordedCheckpoint.of(row, kind)) for kind in CHECKPOINT_KINDS)
    return [
        RecordedObject(kind, recorded.path, recorded.sha256, recorded.size, row.job_id)
        for kind, recorded in named
        if recorded is not None and recorded.sha256 is not None
    ]


def list_recorded_objects(connection: Connection[Any], bucket: Bucket) -> Iterator[list[RecordedObject]]:
    """Yield the objects whose hash is in a row, in pages; each page is queried only when needed."""
    job_id = ""
    while rows := fetch_rows(connection, "list_recorded_checkpoints", after=job_id, limit=PAGE_ROWS):
        job_id = rows[-1].job_id
        yield [recorded for row in rows for recorded in list_job_objects(row)]
    name, version = "", 0
    while rows := fetch_rows(
        connection, "list_recorded_versions", after_name=name, after_version=version, limit=PAGE_ROWS
    ):
        name, version = rows[-1].name, rows[-1].version
        yield [recorded for row in rows for recorded in _list_version_objects(row, bucket)]


def is_still_recorded(connection: Connection[Any], recorded: RecordedObject) -> bool:
    """Return whether the row still names this object; another run may have taken over the job."""
    with connection.transaction():
        (is_recorded,) = Statements(connection).fetch_one(
            "is_still_recorded",
            job_id=recorded.job_id,
            path=recorded.path,
            sha256=recorded.sha256,
            name=recorded.name,
            version=recorded.version,
            production=recorded.is_in_production,
        )
    return bool(is_recorded)


def _list_version_objects(row: Any, bucket: Bucket) -> Iterator[RecordedObject]:
    version = RecordedObject("version", row.path, row.sha256, row.size, row.job_id, row.name, row.version)
    production = replace(version, kind="production", path=locate_production(bucket, row.name).uri)
    yield version
    if row.signature_sha256:
        yield _describe_signature("signature", version, row.signature_sha256)
    if row.stage == "production":
        yield production
        if row.signature_sha256:
            yield _describe_signature("production_signature", production, row.signature_sha256)


def _describe_signature(kind: RecordedKind, signed: RecordedObject, sha256: str) -> RecordedObject:
    path = locate_signature(S3Location.parse(signed.path)).uri
    return replace(signed, kind=kind, path=path, sha256=sha256, size=None)


def examine_object(client: S3Client, recorded: RecordedObject, *, reread: bool) -> AuditFinding | None:
    """Return the finding about the recorded object; None if there is no problem.

    Without `reread`, only its metadata and size are compared with the record. This reveals a replaced object
    but not damaged bytes. Raises StoreErrors if S3 is unavailable.
    """
    try:
        location = S3Location.parse(recorded.path)
        stored = find_checkpoint(client, location)
    except (ValueError, BucketMissing) as error:
        return recorded.make_finding(FindingKind.MISSING, f"{recorded} names {recorded.path}: {error}")
    if stored is None:
        return recorded.make_finding(
            FindingKind.MISSING, f"{recorded} names {recorded.path}, but there is no such object"
        )
    problem = None
    if recorded.size is not None and stored.size != recorded.size:
        problem = f"has {stored.size} bytes instead of {recorded.size}"
    elif stored.sha256 is None:
        problem = "was replaced by an object that this project did not write: it carries no checksum"
    elif stored.sha256 != recorded.sha256:
        problem = f"is a different file: its SHA-256 is {stored.sha256} instead of {recorded.sha256}"
    elif reread:
        problem = _find_problem_with_bytes(client, location, recorded)
    if problem is None:
        return None
    return recorded.make_finding(FindingKind.DAMAGED, f"{recorded.path} of {recorded} {problem}")


def _find_problem_with_bytes(client: S3Client, location: S3Location, recorded: RecordedObject) -> str | None:
    problem = ""
    for _ in range(_READS):
        try:
            found = read_object(client, location)
        except ObjectNotFound:
            return "was removed while it was being read"
        except CorruptObject as error:
            return f"is damaged: {error}"
        except StoreRefusal:
            raise
        except StoreError as error:
            problem = f"cannot be read: {error}"
            log.warning("%s %s", location.uri, problem)
            head_object(client, location)  # raises if the whole server has a problem, not only this object
            continue
        if found.sha256 == recorded.sha256:
            return None
        return f"is damaged: its {found.size} bytes have SHA-256 {found.sha256} instead of {recorded.sha256}"
    return problem
