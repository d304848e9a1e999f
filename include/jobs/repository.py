"""The only way to `training_jobs` and `training_epochs`, by the statements of `sql/queries`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from psycopg import errors
from psycopg.types.json import Jsonb

from include.database import Statements
from include.errors import FinalError, OwnershipLost
from include.jobs.job import JobStatus, RecordedEpoch, StopRequest, TrainingJob
from include.limits import ERROR_BYTES
from include.refusals import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from psycopg import Connection

    from include.training.contract import EpochReport, Progress
    from include.training.gpus import Hardware


_EPOCHS_AT_ONCE = 1000


class RepositoryError(FinalError):
    """A job's row could not be written, with a sentence for the person who reads the task's log."""


class JobTaken(RepositoryError):
    """Another run took the job between the caller's look at it and its claim."""


class JobNotCreatable(RepositoryError):
    """The table belongs to a platform, and this row can only be created by it."""


def finite(value: Any) -> Any:
    """Return `value` (plain JSON data) with None for every number that is not finite: jsonb refuses those."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def _make_storable(text: str) -> str:
    """Return `text` with what PostgreSQL cannot hold written out: NUL, and what UTF-8 does not have.

    It is shortened, because every listing carries it.
    """
    storable = text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
    return shorten(storable, ERROR_BYTES)


class JobRepository:
    """Reads and writes jobs over one psycopg connection.

    Each method is one transaction of its own, committed when it returns; so the connection must be idle, as
    `PostgresHook("training_db").get_conn()` hands it out, and it stays the caller's to close.
    """

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection, self._statements = connection, Statements(connection)

    def get(self, job_id: str) -> TrainingJob | None:
        """Return the job, or None if there is no such row."""
        with self._connection.transaction():
            return self._get(job_id)

    def claim(
        self,
        job_id: str,
        *,
        dag_id: str,
        run_id: str,
        spec: Mapping[str, Any],
        epochs: int | None,
        parent_job_id: str | None,
        resumed_epoch: int | None,
        triggered_by: str | None,
        fresh: bool,
        expected_run_id: str | None,
        origin_run_id: str | None = None,
        recreated: bool = False,
        initial_weights_path: str | None = None,
        initial_weights_sha256: str | None = None,
        queued_at: datetime | None = None,
    ) -> TrainingJob:
        """Make this run the owner of the job, whose row is created if it is not there, and return the row.

        The job is queued from queued_at (by default now) until an attempt has its GPU (`leave_queue`).

        An existing row is taken only while its run_id still is `expected_run_id`, which is what the caller
        saw (None for no row or no owner). Its training goes on: origin_run_id, epochs, metrics and what is
        known of their state stay, while paths, hashes, sizes, error and attempt go. A row that nobody trained
        before begins from the start, and with `fresh` so does one of another run, or of a deleted run with
        this id (`recreated`); it then belongs to `origin_run_id`, by default this run. What parent_job_id,
        resumed_epoch and the initial weights say is written either way.

        Raises JobTaken if another run was faster, JobNotCreatable if only the platform can create this row.
        """
        values = {
            "job_id": job_id,
            "dag_id": dag_id,
            "run_id": run_id,
            "spec": Jsonb(finite(dict(spec))),
            "epochs": epochs,
            "parent_job_id": parent_job_id,
            "resumed_epoch": resumed_epoch,
            "triggered_by": triggered_by,
            "fresh": fresh,
            "expected_run_id": expected_run_id,
            "origin_run_id": origin_run_id or run_id,
            "recreated": recreated,
            "initial_weights_path": initial_weights_path,
            "initial_weights_sha256": initial_weights_sha256,
            "queued_at": queued_at,
            "first_epoch": 0,
        }
        with self._connection.transaction():
            taken = self._statements.row("take_over_job", **values)
            if taken is None:
                self._create(job_id, run_id, values)
            elif taken.begins:
                self._statements.changed("start_over", **values)
            if taken is None or taken.begins:
                self._statements.changed("delete_epochs", **values)
            job = self._get(job_id)
        assert job is not None  # noqa: S101 - written above in the same transaction
        return job

    def leave_queue(self, job_id: str, run_id: str, attempt: int, hardware: Hardware | None = None) -> None:
        """Record that an attempt has its GPU: the job runs, on `hardware`, and has waited until now.

        A request to stop stays open unless the job had ended. Raises OwnershipLost, and writes nothing, if
        `run_id` is not the job's owner, a newer attempt of it began, or the job was cancelled.
        """
        with self._connection.transaction():
            self._as_owner(
                "leave_queue",
                job_id,
                run_id,
                attempt,
                machine=hardware.machine if hardware else None,
                gpu_name=hardware.gpu if hardware else None,
                gpu_driver=hardware.driver if hardware else None,
            )

    def cancel(self, job_id: str) -> tuple[str, str] | None:
        """Stop a job that waits for its GPU, and return its run (Dag id and run id), which is to be ended.

        None, and nothing is written, if it does not wait, or has no run yet.
        """
        with self._connection.transaction():
            row = self._statements.row("cancel_job", job_id=job_id)
        return None if row is None else (row.dag_id, row.run_id)

    def start_training(
        self,
        job_id: str,
        run_id: str,
        attempt: int,
        first_epoch: int,
        batch: int = 0,
        trained_seconds: float = 0.0,
    ) -> int:
        """Mark that an attempt begins at `first_epoch`, and return how many recorded epochs it repeats.

        batch is how many batches of that epoch its state has already, trained_seconds the training that
        is in it; what the row says beyond that is lost. attempt is Airflow's try number. From here on no
        older one of this run writes; the row tells of no epoch that is to come, and names no objects until
        the attempt has ended.
        Raises OwnershipLost, and writes nothing, if `run_id` is not the job's owner, a newer attempt of it
        began, or the failure of this one is recorded already.
        """
        with self._connection.transaction():
            self._as_owner(
                "start_training",
                job_id,
                run_id,
                attempt,
                first_epoch=first_epoch,
                batch=batch,
                trained_seconds=trained_seconds,
            )
            return self._statements.changed("delete_epochs", job_id=job_id, first_epoch=first_epoch)

    def require_owner(self, job_id: str, run_id: str, attempt: int | None = None) -> TrainingJob:
        """Return the job. Raises OwnershipLost unless `run_id` owns it, and no newer attempt than this."""
        job = self.get(job_id)
        if job is None or job.run_id != run_id or (attempt is not None and (job.attempt or 0) > attempt):
            raise OwnershipLost(_lost(job_id, run_id, job))
        return job

    def record_epoch(self, job_id: str, run_id: str, attempt: int, report: EpochReport) -> StopRequest:
        """Record one finished epoch, make its numbers the job's own, and return whether the job is to stop.

        An epoch recorded twice is one row. Raises OwnershipLost, and writes nothing, if the job belongs to
        another run or attempt.
        """
        with self._connection.transaction():
            stop = self._as_owner(
                "record_epoch",
                job_id,
                run_id,
                attempt,
                epoch=report.epoch,
                epochs=report.epochs,
                metrics=Jsonb(finite(dict(report.metrics))),
                fitness=finite(report.fitness),
                seconds=finite(report.seconds),
                eta_seconds=finite(report.eta_seconds),
                trained_seconds=finite(report.trained_seconds),
            )
        return StopRequest.of(*stop)

    def record_progress(self, job_id: str, run_id: str, attempt: int, progress: Progress) -> StopRequest:
        """Record how far the job is within its epoch, and return whether it is to stop.

        Raises OwnershipLost, and writes nothing, if the job belongs to another run or attempt.
        """
        with self._connection.transaction():
            stop = self._as_owner(
                "record_progress",
                job_id,
                run_id,
                attempt,
                epoch=progress.epoch,
                batch=progress.batch,
                batches=progress.batches,
                trained_seconds=progress.trained_seconds,
            )
        return StopRequest.of(*stop)

    def record_durable(self, job_id: str, run_id: str, attempt: int, epoch: int, batch: int = 0) -> None:
        """Record that the state after `epoch`, and `batch` batches of the next one, was verified in S3.

        A later one that is recorded already stays.

        Raises OwnershipLost, and writes nothing, if the job belongs to another run or attempt.
        """
        with self._connection.transaction():
            self._as_owner("record_durable", job_id, run_id, attempt, epoch=epoch, batch=batch)

    def record_inexact(self, job_id: str, run_id: str, attempt: int, reason: str) -> None:
        """Record why the weights need not be those of an uninterrupted training. The first reason stays.

        Raises OwnershipLost, and writes nothing, if the job belongs to another run or attempt.
        """
        with self._connection.transaction():
            self._as_owner("record_inexact", job_id, run_id, attempt, reason=_make_storable(reason))

    def complete(
        self, job_id: str, decide: Callable[[TrainingJob], Mapping[str, Any] | None]
    ) -> TrainingJob | None:
        """Record a job that was trained elsewhere, and return it; None if there is no such row.

        decide gives what record_checkpoints and mark_external take, of a row that nobody else can write
        meanwhile. If it gives None or raises, nothing is written.
        """
        with self._connection.transaction():
            self._statements.row("lock_job", job_id=job_id)
            job = self._get(job_id)
            if job is None or (values := decide(job)) is None:
                return job
            values = {**values, "job_id": job_id, "run_id": job.run_id}
            self._statements.changed("record_checkpoints", **values)
            self._statements.changed("mark_external", **values)
            return self._get(job_id)

    def request_stop(self, job_id: str, *, after_epoch: bool = False) -> bool:
        """Ask that the job stops, after the batch or the epoch it is in. False if it neither waits nor runs.

        Who is to stop after the batch is not asked to wait for the epoch's end any more.
        """
        with self._connection.transaction():
            return self._statements.changed("request_stop", job_id=job_id, after_epoch=after_epoch) == 1

    def archive(self, job_id: str, *, archived: bool) -> bool:
        """Archive the job, or take it out of the archive. False where it is not there, or has not ended."""
        with self._connection.transaction():
            return self._statements.changed("archive_job", job_id=job_id, archived=archived) == 1

    def fail_run(self, dag_id: str, run_id: str, error: str, *, again: bool = False) -> str | None:
        """Record why the run's job failed, and return the job's id.

        None, and nothing is written, if the run owns no job or its job has ended. With `again`, a job that
        had failed already gets the newer reason.
        """
        with self._connection.transaction():
            failed = self._statements.row(
                "fail_run", dag_id=dag_id, run_id=run_id, error=_make_storable(error), again=again
            )
        return None if failed is None else str(failed.job_id)

    def refuse(self, job_id: str, error: str) -> bool:
        """Record why a queued job without a run will not get one. False if the row is not such a job."""
        with self._connection.transaction():
            return self._statements.changed("refuse_job", job_id=job_id, error=_make_storable(error)) == 1

    def epochs(
        self, job_id: str, after: int = -1, *, since: datetime | None = None, limit: int | None = None
    ) -> list[RecordedEpoch]:
        """Return the job's finished epochs in order; those that come after epoch `after`.

        With `since`, those too that were recorded after that moment: a new attempt repeats epochs.
        """
        with self._connection.transaction():
            rows = self._statements.rows("list_epochs", job_id=job_id, after=after, since=since, limit=limit)
        return [RecordedEpoch.model_validate(row._asdict()) for row in rows]

    def fill_epochs(
        self, job_id: str, epochs: Iterable[tuple[int, Mapping[str, float | None], float]]
    ) -> int:
        """Add those of these finished epochs (epoch, metrics, seconds) that are missing; returns how many.

        Only missing epochs are sent: of many epochs usually none or the last one is missing.
        """
        finished = {epoch: (metrics, seconds) for epoch, metrics, seconds in epochs}
        with self._connection.transaction():
            rows = self._statements.rows("list_missing_epochs", job_id=job_id, epochs=list(finished))
            missing = [row.epoch for row in rows]
            added = 0
            for start in range(0, len(missing), _EPOCHS_AT_ONCE):
                part = missing[start : start + _EPOCHS_AT_ONCE]
                added += self._statements.changed(
                    "fill_epochs",
                    job_id=job_id,
                    epochs=part,
                    metrics=[Jsonb(finite(dict(finished[epoch][0]))) for epoch in part],
                    seconds=[finite(finished[epoch][1]) for epoch in part],
                )
        return added

    def copy_epochs(self, parent_job_id: str, job_id: str, last_epoch: int) -> int:
        """Give a resumed job its parent's epochs 0 to `last_epoch`, and return how many were new to it."""
        with self._connection.transaction():
            return self._statements.changed(
                "copy_epochs", parent_job_id=parent_job_id, job_id=job_id, last_epoch=last_epoch
            )

    def _get(self, job_id: str) -> TrainingJob | None:
        row = self._statements.row("get_jobs", job_ids=[job_id])
        return TrainingJob.model_validate(row._asdict()) if row else None

    def _create(self, job_id: str, run_id: str, values: Mapping[str, Any]) -> None:
        taken = JobTaken(
            f"Job {job_id} was taken by another run while run {run_id} was about to take it. "
            f"Wait until that run has ended, or choose another job_id."
        )
        if self._get(job_id) is not None:
            raise taken
        if job_id.isdigit() and self._statements.row("count_key_triggers") != (0,):
            raise JobNotCreatable(
                f"Job {job_id} has no row in training_jobs, and the platform that owns the table names its "
                f"rows by their key: row {job_id} could be its own later. "
                f"Pass the job_id of an existing row, or a name that is no number."
            )
        try:
            self._statements.changed("create_job", **values)
        except errors.UniqueViolation as error:
            raise taken from error
        except errors.NotNullViolation as error:
            raise JobNotCreatable(
                f"Job {job_id} has no row in training_jobs, and only the platform that owns the table can "
                f"create one: its column {error.diag.column_name} is mandatory. "
                f"Pass the job_id of an existing row."
            ) from error
        except errors.StringDataRightTruncation as error:
            raise JobNotCreatable(
                f"Job {job_id} does not fit into training_jobs: {error.diag.message_primary}. "
                f"Choose a shorter job_id, or widen that column."
            ) from error

    def _as_owner(self, name: str, job_id: str, run_id: str, attempt: int, **values: Any) -> Any:
        """Run a statement that writes one row if this attempt owns the job, and return what it returns."""
        row = self._statements.row(name, job_id=job_id, run_id=run_id, attempt=attempt, **values)
        if row is None:
            raise OwnershipLost(_lost(job_id, run_id, self._get(job_id), attempt))
        return row


def _lost(job_id: str, run_id: str, job: TrainingJob | None, attempt: int | None = None) -> str:
    if job is None:
        return f"Job {job_id} has no row in training_jobs any more: somebody deleted it. Trigger it again."
    if job.run_id == run_id and job.status == JobStatus.STOPPED and job.stop_requested:
        return f"Job {job_id} was stopped while it waited for a GPU. To train it after all, trigger it again."
    if job.run_id == run_id and job.status == JobStatus.FAILED and job.attempt == attempt:
        return (
            f"Job {job_id} was recorded as failed while this attempt was starting. "
            f"This attempt stops here; clear train to go on. The reason was: {job.error}"
        )
    if job.run_id == run_id:
        return (
            f"Job {job_id} does not belong to this attempt any more: a newer attempt of run {run_id} began. "
            f"This one stops here; the newer one goes on."
        )
    return (
        f"Job {job_id} does not belong to run {run_id} any more: another run took it over. "
        f"This training stops here; the other one goes on."
    )
