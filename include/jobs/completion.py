"""Completing a job that was trained outside Airflow: both checkpoints are read, then the row records them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from include.checkpoints.checkpoint import CHECKPOINT_KINDS, Checkpoint
from include.checkpoints.inspection.errors import InspectionError
from include.checkpoints.inspection.inspect import judge_source
from include.checkpoints.metadata import build_metadata, parse_checkpoint
from include.checkpoints.store import CheckpointStore
from include.errors import FinalError
from include.jobs.job import TRAINING_DAG
from include.jobs.listing import JobUnknown
from include.jobs.recorded_checkpoint import checkpoint_columns, column_names
from include.jobs.repository import JobRepository
from include.jobs.storable import finite
from include.s3.errors import ConditionFailed, CorruptObject, ObjectNotFound
from include.s3.reading import ObjectSource, read_object
from include.s3.upload import set_metadata

if TYPE_CHECKING:
    from include.checkpoints.checkpoint import CheckpointKind
    from include.database import OpenDatabase
    from include.jobs.callback import TrainingCompletionCallback
    from include.jobs.job import TrainingJob
    from include.s3.bucket import Bucket
    from include.s3.download import FetchedObject
    from include.s3.location import S3Location

log = logging.getLogger(__name__)

_COLUMNS = [column for kind in CHECKPOINT_KINDS for column in column_names(kind)]
_NUMBERS = ["epoch", "epochs", "metrics"]
_TRAINER = "unknown"
"""Stored as Ultralytics' version, which is unknown because checkpoints from other trainers are not loaded."""


class CompletionRefused(FinalError):
    """The reported completion is invalid; nothing was recorded."""


class CompletionConflict(FinalError):
    """The report contradicts the row, or its sender must not complete the job; nothing was recorded."""


@dataclass(frozen=True)
class _Upload:
    """An uploaded checkpoint that was read here."""

    checkpoint: Checkpoint
    finding: str | None
    """Why the object cannot be loaded here; None if it can."""


class Completion:
    """A trainer's report that one job is complete, and its verification against S3.

    `open_database` opens short-lived connections, so that no connection is held while gigabytes are read.
    `user` is the name of the report's sender, which is recorded.
    """

    def __init__(
        self,
        job_id: str,
        callback: TrainingCompletionCallback,
        open_database: OpenDatabase,
        bucket: Bucket,
        user: str,
    ) -> None:
        self._job_id, self._callback, self._user = job_id, callback, user
        self._open_database = open_database
        self._store, self._bucket = CheckpointStore(bucket), bucket

    def record(self) -> TrainingJob:
        """Verify both objects, record the job and return it; repeating the same report changes nothing.

        Raises JobUnknown, CompletionRefused, CompletionConflict, and StoreErrors if S3 is unavailable.
        """
        self._require_own_paths()
        with self._open_database() as connection:
            job = JobRepository(connection).get(self._job_id)
        if job is None:
            raise JobUnknown(self._job_id)
        if is_recorded(job, self._callback):
            return job
        found = {kind: self._verify(kind, job) for kind in CHECKPOINT_KINDS}
        with self._open_database() as connection:
            recorded = JobRepository(connection).complete(
                self._job_id, lambda now: self._values(job, now, found)
            )
        if recorded is None:
            raise JobUnknown(self._job_id)
        log.info("Job %s was %s outside Airflow.", self._job_id, self._callback.status)
        return recorded

    def _require_own_paths(self) -> None:
        """Refuse paths other than the job's own: this project cannot vouch for other objects."""
        if self._callback.job_id not in (None, self._job_id):
            raise CompletionRefused(
                f"job_id={self._callback.job_id!r:.80} does not match the job in the URL ({self._job_id}); "
                "omit it or correct one of them"
            )
        for kind in CHECKPOINT_KINDS:
            path = self._callback.checkpoint(kind).path
            try:
                own = self._store.build_uri(self._job_id, kind)
            except ValueError as error:
                raise CompletionRefused(str(error)) from None
            if path != own:
                raise CompletionRefused(
                    f"{column_names(kind).path}={path!r:.200} is not where this job's {kind}.pt belongs; "
                    f"upload the file to {own} and give that URI"
                )

    def _verify(self, kind: CheckpointKind, job: TrainingJob) -> _Upload:
        """Read the whole object and identify it by its bytes, because its metadata prove nothing."""
        location = self._store.locate(self._job_id, kind)
        columns, reported = column_names(kind), self._callback.checkpoint(kind)
        try:
            read = read_object(self._bucket.client, location)
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
        finding = self._judge(kind, location, read)
        checkpoint = Checkpoint(location.uri, read.sha256, read.size, self._epoch(kind, job))
        if marked is None:
            self._add_metadata(location, read, checkpoint, job)
        return _Upload(checkpoint, finding)

    def _judge(self, kind: CheckpointKind, location: S3Location, read: FetchedObject) -> str | None:
        """Return why the object cannot be loaded, or None. Raises CompletionRefused if it may be harmful."""
        try:
            finding = judge_source(ObjectSource(self._bucket.client, location, read.size, read.etag))
        except InspectionError as error:
            raise CompletionRefused(
                f"{column_names(kind).path}={location.uri!r} is refused: it {error}"
            ) from None
        except CorruptObject as error:
            raise CompletionRefused(str(error)) from None
        return finding and f"{kind}.pt {finding}"

    def _epoch(self, kind: CheckpointKind, job: TrainingJob) -> int:
        epoch = self._callback.epoch if self._callback.epoch is not None else job.epoch
        return epoch if epoch is not None and kind == "last" else -1

    def _add_metadata(
        self, location: S3Location, read: FetchedObject, checkpoint: Checkpoint, job: TrainingJob
    ) -> None:
        """Give the object the metadata of a checkpoint, because audits and resuming rely on it."""
        metadata = build_metadata(checkpoint, self._job_id, job.origin_run_id, _TRAINER)
        try:
            set_metadata(self._bucket.client, location, read, metadata)
        except ConditionFailed:
            raise CompletionRefused(
                f"{location.uri} was replaced while it was being read; complete the job once its upload has "
                "finished"
            ) from None

    def _values(
        self, before: TrainingJob, job: TrainingJob, found: dict[CheckpointKind, _Upload]
    ) -> dict[str, Any] | None:
        """Return the values to record in the current row `job`; None if they are already recorded.

        `before` is the row as it was before the files were read.
        """
        callback = self._callback
        if is_recorded(job, callback.model_copy(update=_checkpoint_values(found))):
            return None
        if _ownership(job) != _ownership(before):
            raise CompletionConflict(
                f"Job {job.job_id} was taken over, or its last.pt expired, while its files were being read; "
                "check the job, then complete it again"
            )
        metrics = job.metrics if callback.metrics is None else callback.metrics
        findings = [upload.finding for upload in found.values() if upload.finding]
        return _checkpoint_values(found) | {
            "uploader": self._user,
            "finding": "; ".join(findings) or None,
            "status": callback.status,
            "epoch": job.epoch if callback.epoch is None else callback.epoch,
            "batch": 0,
            "epochs": callback.epochs,
            "metrics": None if metrics is None else Jsonb(finite(metrics)),
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
    best, last = job.checkpoint("best"), job.checkpoint("last")
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
    return {name: float(each) if isinstance(each, int) else each for name, each in finite(value).items()}


def _ownership(job: TrainingJob) -> tuple[object, ...]:
    """Return the values that change when another run or attempt starts, or when retention deletes last.pt."""
    return job.run_id, job.attempt, job.last_checkpoint_expired_at


def _checkpoint_values(found: dict[CheckpointKind, _Upload]) -> dict[str, Any]:
    """Return the columns of both checkpoints."""
    return {
        column: value
        for kind, upload in found.items()
        for column, value in checkpoint_columns(kind, upload.checkpoint).items()
    }
