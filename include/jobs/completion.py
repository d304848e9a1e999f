"""Completes a job that was trained outside Airflow: reads both checkpoints, then records them in the row."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from include.checkpoints.checkpoint import CHECKPOINT_KINDS, Checkpoint
from include.checkpoints.inspection.errors import InspectionError
from include.checkpoints.inspection.inspect import judge_source
from include.checkpoints.store import CheckpointStore
from include.checkpoints.stored import build_metadata, parse_checkpoint
from include.database import make_finite
from include.errors import Conflict, Invalid
from include.jobs.job import TRAINING_DAG
from include.jobs.listing import JobListing, JobUnknown
from include.jobs.recorded_checkpoint import build_checkpoint_columns, name_columns
from include.jobs.repository import JobRepository
from include.s3.errors import ConditionFailed, CorruptObject, ObjectNotFound
from include.s3.reading import ObjectSource, read_object
from include.s3.upload import set_metadata

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.checkpoints.checkpoint import CheckpointKind
    from include.database import OpenDatabase
    from include.jobs.callback import TrainingCompletionCallback
    from include.jobs.job import TrainingJob
    from include.s3.bucket import Bucket
    from include.s3.download import FetchedObject
    from include.s3.location import S3Location

log = logging.getLogger(__name__)

_COLUMNS = [column for kind in CHECKPOINT_KINDS for column in name_columns(kind)]
_NUMBERS = ["epoch", "epochs", "metrics"]
_TRAINER = "unknown"
"""Stored as Ultralytics' version. It is unknown: checkpoints from other trainers are not loaded."""


class CompletionRefused(Invalid):
    """The reported completion is invalid; nothing was recorded."""


class CompletionConflict(Conflict):
    """The report contradicts the row, or a run is training the job; nothing was recorded."""


@dataclass(frozen=True)
class _Upload:
    """An uploaded checkpoint that was read here."""

    checkpoint: Checkpoint
    """The file, identified by the bytes that were read."""
    finding: str | None
    """Why the object cannot be loaded here; None if it can."""


def record_completion(
    job_id: str,
    callback: TrainingCompletionCallback,
    open_database: OpenDatabase,
    bucket: Bucket,
    user: str,
) -> TrainingJob:
    """Verify the checkpoints that a trainer reports, record the job and return it.

    Repeating the same report changes nothing. `open_database` opens short-lived connections, so that no
    connection is held while gigabytes are read. `user` is the name of the report's sender, which is recorded.
    Raises JobUnknown, CompletionRefused, CompletionConflict, and StoreErrors if S3 is unavailable.
    """
    locations = _require_own_paths(job_id, callback, CheckpointStore(bucket))
    with open_database() as connection:
        job = JobListing(connection).require(job_id)
    if is_recorded(job, callback):
        return job
    found = {
        kind: _verify(kind, location, callback, job, bucket.client) for kind, location in locations.items()
    }
    with open_database() as connection:
        recorded = JobRepository(connection).complete(
            job_id, lambda now: _decide_values(callback, job, now, found, user)
        )
    if recorded is None:
        raise JobUnknown(job_id)
    log.info("Job %s was %s outside Airflow.", job_id, callback.status)
    return recorded


def _require_own_paths(
    job_id: str, callback: TrainingCompletionCallback, store: CheckpointStore
) -> dict[CheckpointKind, S3Location]:
    """Return the job's own keys, and refuse other paths: this project cannot vouch for other objects."""
    if callback.job_id not in (None, job_id):
        raise CompletionRefused(
            f"job_id={callback.job_id!r:.80} does not match the job in the URL ({job_id}); "
            "omit it or correct one of them"
        )
    locations: dict[CheckpointKind, S3Location] = {}
    for kind in CHECKPOINT_KINDS:
        path = callback.get_checkpoint(kind).path
        try:
            own = store.locate(job_id, kind)
        except ValueError as error:
            raise CompletionRefused(str(error)) from None
        if path != own.uri:
            raise CompletionRefused(
                f"{name_columns(kind).path}={path!r:.200} is not where this job's {kind}.pt belongs; "
                f"upload the file to {own.uri} and give that URI"
            )
        locations[kind] = own
    return locations


def _verify(
    kind: CheckpointKind,
    location: S3Location,
    callback: TrainingCompletionCallback,
    job: TrainingJob,
    client: S3Client,
) -> _Upload:
    """Read the whole object and identify it by its bytes, because its metadata prove nothing."""
    columns, reported = name_columns(kind), callback.get_checkpoint(kind)
    try:
        read = read_object(client, location)
    except ObjectNotFound:
        raise CompletionRefused(
            f"{columns.path}={location.uri!r} does not exist; upload the file first"
        ) from None
    except CorruptObject as error:
        raise CompletionRefused(f"{columns.path}={location.uri!r} cannot be read: {error}") from None
    marked = parse_checkpoint(read.metadata, location.uri, read.size)
    for name, claimed, actual in (
        (columns.sha256, reported.sha256, read.sha256),
        (columns.size, reported.size, read.size),
        (f"the sha256 in the metadata of {location.uri}", marked and marked.sha256, read.sha256),
    ):
        if claimed not in (None, actual):
            raise CompletionRefused(
                f"{name}={claimed!r} does not match the object in S3 ({actual!r}); upload the file again "
                "or correct the value"
            )
    finding = _judge(kind, location, read, client)
    checkpoint = Checkpoint(location.uri, read.sha256, read.size, _choose_epoch(kind, callback, job))
    if marked is None:
        _add_metadata(location, read, checkpoint, job, client)
    return _Upload(checkpoint, finding)


def _judge(kind: CheckpointKind, location: S3Location, read: FetchedObject, client: S3Client) -> str | None:
    """Return why the object cannot be loaded, or None. Raises CompletionRefused if it may be harmful."""
    try:
        finding = judge_source(ObjectSource(client, location, read.size, read.etag))
    except InspectionError as error:
        raise CompletionRefused(
            f"{name_columns(kind).path}={location.uri!r} is refused: it {error}"
        ) from None
    except CorruptObject as error:
        raise CompletionRefused(str(error)) from None
    return finding and f"{kind}.pt {finding}"


def _choose_epoch(kind: CheckpointKind, callback: TrainingCompletionCallback, job: TrainingJob) -> int:
    """Return the epoch for the checkpoint's metadata; -1 if it is unknown, as always for best.pt."""
    epoch = callback.epoch if callback.epoch is not None else job.epoch
    return epoch if epoch is not None and kind == "last" else -1


def _add_metadata(
    location: S3Location, read: FetchedObject, checkpoint: Checkpoint, job: TrainingJob, client: S3Client
) -> None:
    """Give the object the metadata of a checkpoint, because audits and resuming rely on it."""
    metadata = build_metadata(checkpoint, job.job_id, job.origin_run_id, _TRAINER)
    try:
        set_metadata(client, location, read, metadata)
    except ConditionFailed:
        raise CompletionRefused(
            f"{location.uri} was replaced while it was being read; complete the job once the upload of "
            "this file has finished"
        ) from None


def _decide_values(
    callback: TrainingCompletionCallback,
    before: TrainingJob,
    job: TrainingJob,
    found: dict[CheckpointKind, _Upload],
    user: str,
) -> dict[str, Any] | None:
    """Return the values to record in the current row `job`; None if they are already recorded.

    `before` is the row as it was before the files were read.
    """
    if is_recorded(job, callback.model_copy(update=_build_columns(found))):
        return None
    if _list_owner(job) != _list_owner(before):
        raise CompletionConflict(
            f"Job {job.job_id} was taken over, or its last.pt expired, while its files were being read; "
            "check the job, then complete it again"
        )
    metrics = job.metrics if callback.metrics is None else callback.metrics
    findings = [upload.finding for upload in found.values() if upload.finding]
    return _build_columns(found) | {
        "uploader": user,
        "finding": "; ".join(findings) or None,
        "status": callback.status,
        "epoch": job.epoch if callback.epoch is None else callback.epoch,
        "batch": 0,
        "epochs": callback.epochs,
        "metrics": None if metrics is None else Jsonb(make_finite(metrics)),
    }


def is_recorded(job: TrainingJob, callback: TrainingCompletionCallback) -> bool:
    """Return whether the row already records the callback.

    Raises CompletionConflict if the row contradicts the callback, or if a run of `train_yolo` is training the
    job.
    """
    for name in ("dag_id", "run_id"):
        given, owner = getattr(callback, name), getattr(job, name)
        if None not in (given, owner) and given != owner:
            raise CompletionConflict(
                f"{name}={given!r:.200} does not own job {job.job_id}: its owner is {owner!r}; "
                "omit it, or take over the job first"
            )
    if job.is_active and job.dag_id == TRAINING_DAG:
        raise CompletionConflict(
            f"Job {job.job_id} is being trained by run {job.run_id} of {TRAINING_DAG}, which records "
            "the completion itself; stop the job and wait until it has ended"
        )
    if not job.has_ended_well:
        return False
    best, last = job.get_checkpoint("best"), job.get_checkpoint("last")
    last_is_known = (last and last.sha256) or job.last_checkpoint_expired_at
    whole = bool(best and best.sha256 and last_is_known)
    # A row that only a host application wrote may also say that the job has ended; numbers in such a row are
    # not compared.
    for name in ("status", *_COLUMNS, *(_NUMBERS if whole else ())):
        given, recorded = _normalize(getattr(callback, name)), _normalize(getattr(job, name))
        if None not in (given, recorded) and given != recorded:
            raise CompletionConflict(
                f"{name}={given!r:.200} contradicts the value recorded for job {job.job_id} ({recorded!r}); "
                "a job is completed only once, so use a new job_id for this training run"
            )
    return whole


def _normalize(value: Any) -> Any:
    """Make metrics comparable with those in jsonb, which cannot store NaN and returns 1e23 as an integer."""
    if not isinstance(value, dict):
        return value
    return {name: float(each) if isinstance(each, int) else each for name, each in make_finite(value).items()}


def _list_owner(job: TrainingJob) -> tuple[object, ...]:
    """Return the values that change when another run or attempt starts, or when retention deletes last.pt."""
    return job.run_id, job.attempt, job.last_checkpoint_expired_at


def _build_columns(found: dict[CheckpointKind, _Upload]) -> dict[str, Any]:
    """Return the columns of both checkpoints."""
    return {
        column: value
        for kind, upload in found.items()
        for column, value in build_checkpoint_columns(kind, upload.checkpoint).items()
    }
