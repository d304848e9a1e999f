"""Records the progress of an attempt at a training run, as long as the attempt owns the job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from include.database import Statements, make_finite, make_storable
from include.errors import OwnershipLost
from include.jobs.job import JobStatus, StopRequest, TrainingJob

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from psycopg import Connection

    from include.training.contract import EpochReport, TrainingProgress
    from include.training.gpus import Hardware

FinishedEpoch = tuple[int, "Mapping[str, float | None]", float]
"""An epoch's number, metrics and duration in seconds."""

_EPOCHS_AT_ONCE = 1000


class AttemptRepository:
    """Reads jobs, and records the progress of their attempts, over one psycopg connection.

    Each method runs in a separate transaction, committed when the method returns. The connection must
    therefore be idle, like a new one from `PostgresHook("training_db").get_conn()`. The caller closes the
    connection.

    Methods that record something for an attempt raise OwnershipLost, and write nothing, if the job belongs to
    another run, or if a newer attempt of the run has started.
    """

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection, self._statements = connection, Statements(connection)

    def get(self, job_id: str) -> TrainingJob | None:
        """Return the job, or None if there is no such row."""
        with self._connection.transaction():
            return self._get(job_id)

    def leave_queue(self, job_id: str, run_id: str, attempt: int, hardware: Hardware | None = None) -> None:
        """Record that an attempt has its GPU: the job runs on `hardware`, and its wait is over.

        A request to stop stays in effect, unless the job has ended since: an attempt at a job that had ended
        overrides the request. Also raises OwnershipLost if the job was cancelled.
        """
        with self._connection.transaction():
            self._write_as_owner(
                "leave_queue",
                job_id,
                run_id,
                attempt,
                machine=hardware.machine if hardware else None,
                gpu_name=hardware.gpu if hardware else None,
                gpu_driver=hardware.driver if hardware else None,
            )
            self._statements.execute("begin_gpu_use", job_id=job_id)

    def extend_gpu_use(self, job_id: str, run_id: str, attempt: int) -> None:
        """Count the attempt's GPUs as used until now. Does nothing if the attempt does not own the job."""
        with self._connection.transaction():
            self._statements.execute("extend_gpu_use", job_id=job_id, run_id=run_id, attempt=attempt)

    def start_training(
        self,
        job_id: str,
        run_id: str,
        attempt: int,
        first_epoch: int,
        batch: int = 0,
        trained_seconds: float = 0.0,
        finished: Iterable[FinishedEpoch] = (),
    ) -> int:
        """Record that an attempt starts at `first_epoch`, and return how many recorded epochs it repeats.

        The attempt starts from a state after `batch` batches of that epoch and `trained_seconds` of training.
        Any further training time in the row counts as lost. `finished` are the epochs that the state records.
        Rows of `first_epoch` and later epochs are deleted, and epochs of `finished` without a row are added.
        The job's row records no checkpoints until the attempt has ended. `attempt` is Airflow's try number;
        after this call, no older attempt of this run can write. Also raises OwnershipLost if the failure of
        this attempt has already been recorded.
        """
        with self._connection.transaction():
            self._run_as_owner(
                "start_training",
                job_id,
                run_id,
                attempt,
                first_epoch=first_epoch,
                batch=batch,
                trained_seconds=trained_seconds,
            )
            repeated = self._statements.execute("delete_epochs", job_id=job_id, first_epoch=first_epoch)
            self.fill_epochs(job_id, finished)
            return repeated

    def require_owner(self, job_id: str, run_id: str, attempt: int | None = None) -> TrainingJob:
        """Return the job.

        Raises OwnershipLost if `run_id` does not own the job, if the job was cancelled, or if `attempt` is
        given and a newer attempt has started.
        """
        job = self.get(job_id)
        overtaken = job is not None and attempt is not None and (job.attempt or 0) > attempt
        if job is None or job.run_id != run_id or job.was_cancelled or overtaken:
            raise explain_loss(job_id, run_id, job)
        return job

    def record_epoch(self, job_id: str, run_id: str, attempt: int, report: EpochReport) -> StopRequest:
        """Record one finished epoch, update the job from it, and return whether the job should stop.

        Recording an epoch again replaces its row.
        """
        with self._connection.transaction():
            stop = self._run_as_owner(
                "record_epoch",
                job_id,
                run_id,
                attempt,
                epoch=report.epoch,
                epochs=report.epochs,
                metrics=Jsonb(make_finite(dict(report.metrics))),
                fitness=make_finite(report.fitness),
                seconds=make_finite(report.seconds),
                eta_seconds=make_finite(report.eta_seconds),
                trained_seconds=make_finite(report.trained_seconds),
            )
        return StopRequest.of(*stop)

    def record_progress(
        self, job_id: str, run_id: str, attempt: int, progress: TrainingProgress
    ) -> StopRequest:
        """Record the job's progress within its epoch, and return whether the job should stop."""
        with self._connection.transaction():
            stop = self._run_as_owner(
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
        """Record that the state after `epoch`, plus `batch` batches of the next epoch, was verified in S3.

        If a later state is already recorded, it stays recorded.
        """
        with self._connection.transaction():
            self._run_as_owner("record_durable", job_id, run_id, attempt, epoch=epoch, batch=batch)

    def record_inexact(self, job_id: str, run_id: str, attempt: int, reason: str) -> None:
        """Record why the weights may differ from those of an uninterrupted training run.

        Only the first reason is recorded.
        """
        with self._connection.transaction():
            self._run_as_owner("record_inexact", job_id, run_id, attempt, reason=make_storable(reason))

    def fill_epochs(self, job_id: str, epochs: Iterable[FinishedEpoch]) -> int:
        """Record the finished epochs that are missing, and return their number.

        Only missing epochs are sent to the database: usually none, or only the last one.
        """
        finished = {epoch: (metrics, seconds) for epoch, metrics, seconds in epochs}
        with self._connection.transaction():
            rows = self._statements.fetch_all("list_missing_epochs", job_id=job_id, epochs=list(finished))
            missing = [row.epoch for row in rows]
            added = 0
            for start in range(0, len(missing), _EPOCHS_AT_ONCE):
                part = missing[start : start + _EPOCHS_AT_ONCE]
                added += self._statements.execute(
                    "fill_epochs",
                    job_id=job_id,
                    epochs=part,
                    metrics=[Jsonb(make_finite(dict(finished[epoch][0]))) for epoch in part],
                    seconds=[make_finite(finished[epoch][1]) for epoch in part],
                )
        return added

    def _get(self, job_id: str) -> TrainingJob | None:
        row = self._statements.fetch_one("get_jobs", job_ids=[job_id])
        return TrainingJob.model_validate(row._asdict()) if row else None

    def _run_as_owner(self, name: str, job_id: str, run_id: str, attempt: int, **values: Any) -> Any:
        """Call `_write_as_owner`, and record that the attempt is alive and still uses its GPUs."""
        row = self._write_as_owner(name, job_id, run_id, attempt, **values)
        self._statements.execute("extend_gpu_use", job_id=job_id, run_id=run_id, attempt=attempt)
        return row

    def _write_as_owner(self, name: str, job_id: str, run_id: str, attempt: int, **values: Any) -> Any:
        """Run a statement that writes one row if this attempt owns the job, and return its result."""
        row = self._statements.fetch_one(name, job_id=job_id, run_id=run_id, attempt=attempt, **values)
        if row is None:
            raise explain_loss(job_id, run_id, self._get(job_id), attempt)
        return row


def explain_loss(
    job_id: str, run_id: str, job: TrainingJob | None, attempt: int | None = None
) -> OwnershipLost:
    """Return the error that says why the run, or this attempt of it, may not write the job's row."""
    if job is None:
        reason = "no longer has a row in training_jobs: it was deleted. Trigger it again."
    elif job.run_id != run_id:
        reason = (
            f"no longer belongs to run {run_id}: another run took it over. "
            "This training run stops here; the other one continues."
        )
    elif job.was_cancelled:
        reason = "was cancelled while it waited. To train it anyway, trigger it again."
    elif job.status == JobStatus.FAILED and job.attempt == attempt:
        reason = (
            "was recorded as failed while this attempt was starting. "
            f"This attempt stops here; clear the task train to continue. The reason was: {job.error}"
        )
    else:
        reason = (
            f"no longer belongs to this attempt: a newer attempt of run {run_id} has started. "
            "This one stops here; the newer one continues."
        )
    return OwnershipLost(f"Job {job_id} {reason}")
