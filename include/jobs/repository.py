"""Reads and writes `training_jobs` and `training_epochs`, with the statements in `sql/queries`.

include.jobs.attempts records the progress of attempts at a training run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import errors
from psycopg.types.json import Jsonb
from pydantic import TypeAdapter, ValidationError

from include.database import make_finite, make_storable
from include.datasets.reference import ClassCount
from include.errors import FinalError
from include.jobs.attempts import AttemptRepository, explain_loss
from include.jobs.job import RecordedEpoch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from include.jobs.claim import JobClaim
    from include.jobs.job import TrainingJob

_CLASS_TABLE = TypeAdapter(list[ClassCount] | None)


class RepositoryError(FinalError):
    """A job's row could not be written; the message is written for readers of the task's log."""


class JobTaken(RepositoryError):
    """Another run took the job after the caller read it and before the caller claimed it."""


class JobNotCreatable(RepositoryError):
    """The table belongs to a host application, which alone can create this row."""


class StateExpired(RepositoryError):
    """The state from which the job continues was deleted before the run had claimed the job."""


class DatasetGone(RepositoryError):
    """The registered version of a dataset was deleted before a job that trains on it was recorded."""


class JobRepository(AttemptRepository):
    """Reads and writes jobs on behalf of runs, attempts, users and training programs outside Airflow."""

    def claim(self, claim: JobClaim) -> TrainingJob:
        """Make this run the owner of the job, creating its row if necessary, and return the row.

        The job is queued until an attempt has its GPU (`leave_queue`).

        An existing row is taken only if its run_id is still `expected_run_id`. Training starts from scratch
        if the job was never trained. With `fresh`, it also does if the row belongs to another run, or to a
        deleted run with this id (`recreated`). In all other cases, training continues: origin_run_id, epoch,
        metrics and the durable state are kept; paths, hashes, sizes, error and attempt are cleared.
        parent_job_id, resumed_epoch, the initial weights and the version of the dataset are always written.
        The job `waits_for_quota` if it would exceed `gpu_limit`, or if an older job of the same user waits
        for the quota.

        Raises JobTaken if another run took the job first; OwnershipLost if the job was cancelled while this
        run waited, and the run has not been cleared since; JobNotCreatable if only the host application can
        create this row; StateExpired if the state to continue from was deleted in the meantime, and
        DatasetGone if the version of the dataset was.
        """
        dataset = claim.dataset
        values = vars(claim) | {
            "spec": Jsonb(make_finite(dict(claim.spec))),
            "origin_run_id": claim.origin_run_id or claim.run_id,
            "dataset_name": dataset.name if dataset else None,
            "dataset_version": dataset.version if dataset else None,
            "first_epoch": 0,
        }
        with self._connection.transaction():
            if claim.gpu_limit is not None:
                self._statements.fetch_one("lock_quota", **values)
            if dataset is not None and self._statements.fetch_one("hold_dataset_version", **values) is None:
                raise DatasetGone(f"dataset={str(dataset)!r} has just been deleted; give another version")
            if claim.parent_job_id is not None:
                self._hold_parent(claim, claim.parent_job_id)
            taken = self._statements.fetch_one("take_over_job", **values)
            if taken is None:
                self._create(claim, values)
            elif taken.begins:
                self._statements.execute("start_over", **values)
            if taken is None or taken.begins:
                self._statements.execute("delete_epochs", **values)
            if claim.gpu_limit is not None:
                self._statements.execute("hold_for_quota", **values)
            job = self._get(claim.job_id)
        assert job is not None  # noqa: S101 - written above in the same transaction
        return job

    def record_dataset(
        self, job_id: str, run_id: str, fingerprint: str, class_table: Sequence[ClassCount] | None = None
    ) -> None:
        """Record the identity and the classes of the job's dataset, if the run owns the job."""
        table = None if class_table is None else Jsonb([count.model_dump() for count in class_table])
        with self._connection.transaction():
            self._statements.execute(
                "record_dataset",
                job_id=job_id,
                run_id=run_id,
                fingerprint=fingerprint,
                class_table=table,
            )

    def record_preparation(self, job_id: str, run_id: str, text: str | None) -> None:
        """Record `text`, the progress of preparing the job's data; None once the data are ready.

        Does nothing if the run does not own the job.
        """
        with self._connection.transaction():
            self._statements.execute("record_preparation", job_id=job_id, run_id=run_id, text=text)

    def get_class_table(self, job_id: str) -> list[ClassCount] | None:
        """Return how often each class occurs in the job's dataset; None if the counts were not recorded."""
        with self._connection.transaction():
            row = self._statements.fetch_one("get_class_table", job_id=job_id)
        try:
            return None if row is None else _CLASS_TABLE.validate_python(row.class_table)
        except ValidationError:  # a host application may have written anything into a column of that name
            return None

    def has_own_state(self, job_id: str) -> bool:
        """Return whether S3 has a state of this job that is newer than the state that the job started from.

        The row records the epoch that the job continued from, but not the batch. A state within that epoch is
        the parent's if the parent's row records the same position; otherwise it counts as the job's own.
        """
        job = self.get(job_id)
        if job is None or job.durable is None:
            return False
        if job.resumed_epoch is None:
            return True
        epoch, batch = job.durable
        if epoch != job.resumed_epoch or batch == 0:
            return epoch > job.resumed_epoch
        parent = self.get(job.parent_job_id or "")
        return parent is None or parent.durable != job.durable

    def cancel(self, job_id: str) -> tuple[str, str] | None:
        """Stop a job that waits for its GPU; return its run (Dag id and run id), which the caller must end.

        Returns None, and writes nothing, if the job does not wait, or no run of `train_yolo` owns it.
        """
        with self._connection.transaction():
            row = self._statements.fetch_one("cancel_job", job_id=job_id)
        return None if row is None else (row.dag_id, row.run_id)

    def complete(
        self, job_id: str, decide: Callable[[TrainingJob], Mapping[str, Any] | None]
    ) -> TrainingJob | None:
        """Record a job that was trained elsewhere, and return it; None if there is no such row.

        `decide` gets the locked row, and returns the values for the statements mark_external and
        record_checkpoints. If it returns None or raises an error, nothing is written.
        """
        with self._connection.transaction():
            self._statements.fetch_one("lock_jobs", job_ids=[job_id])
            job = self._get(job_id)
            if job is None or (values := decide(job)) is None:
                return job
            values = {**values, "job_id": job_id, "run_id": job.run_id}
            self._statements.execute("mark_external", **values)
            self._statements.execute("record_checkpoints", **values)
            return self._get(job_id)

    def request_stop(self, job_id: str, *, after_epoch: bool = False) -> bool:
        """Ask the job to stop after its current batch or epoch; return whether the job is queued or running.

        A request to stop after the batch is never changed into a request to stop after the epoch.
        """
        with self._connection.transaction():
            return self._statements.execute("request_stop", job_id=job_id, after_epoch=after_epoch) == 1

    def set_archived(self, job_id: str, *, archived: bool) -> bool:
        """Archive or unarchive the job; return whether that was possible.

        An active job cannot be archived. Also returns False if the job does not exist.
        """
        with self._connection.transaction():
            return self._statements.execute("archive_job", job_id=job_id, archived=archived) == 1

    def fail_run(
        self, dag_id: str, run_id: str, error: str, *, again: bool = False, attempt: int | None = None
    ) -> str | None:
        """Record why the run's job failed, and return the job's id.

        Returns None, and writes nothing, if the run owns no job, if its job has ended, or if `attempt` is
        given and a newer attempt has started. With `again`, a job that has already failed gets the new
        reason.
        """
        with self._connection.transaction():
            failed = self._statements.fetch_one(
                "fail_run",
                dag_id=dag_id,
                run_id=run_id,
                error=make_storable(error),
                again=again,
                attempt=attempt,
            )
        return None if failed is None else str(failed.job_id)

    def refuse(self, job_id: str, error: str) -> bool:
        """Record that a queued job without a run failed, and why; return False if there is no such job."""
        with self._connection.transaction():
            return self._statements.execute("refuse_job", job_id=job_id, error=make_storable(error)) == 1

    def list_epochs(
        self, job_id: str, after: int = -1, *, since: datetime | None = None, limit: int | None = None
    ) -> list[RecordedEpoch]:
        """Return the job's finished epochs after epoch `after`, in order.

        With `since`, also return earlier epochs that a new attempt repeated and recorded after that moment.
        """
        with self._connection.transaction():
            rows = self._statements.fetch_all(
                "list_epochs", job_id=job_id, after=after, since=since, limit=limit
            )
        return [RecordedEpoch.model_validate(row._asdict()) for row in rows]

    def copy_epochs(self, parent_job_id: str, job_id: str, last_epoch: int) -> int:
        """Copy the parent's epochs 0 to `last_epoch` to a resumed job; return how many were copied."""
        with self._connection.transaction():
            return self._statements.execute(
                "copy_epochs", parent_job_id=parent_job_id, job_id=job_id, last_epoch=last_epoch
            )

    def _hold_parent(self, claim: JobClaim, parent_job_id: str) -> None:
        """Keep the parent from being deleted until this transaction has recorded the job that needs it."""
        # Retention may lock the same two rows, so both are locked here, and in the same order.
        self._statements.fetch_all("lock_jobs", job_ids=[claim.job_id, parent_job_id])
        parent = self._statements.fetch_one("hold_job", job_id=parent_job_id)
        if claim.fresh and claim.resumed_epoch is not None and (parent is None or parent.is_expired):
            raise StateExpired(
                f"resume_from={parent_job_id!r} can no longer be resumed: its last.pt has just been deleted. "
                "Give another job"
            )

    def _create(self, claim: JobClaim, values: Mapping[str, Any]) -> None:
        job_id, run_id = claim.job_id, claim.run_id
        taken = JobTaken(
            f"Job {job_id} was taken by another run while run {run_id} was claiming it. "
            "Wait until that run has ended, or choose another job_id."
        )
        if (job := self._get(job_id)) is not None:
            if job.run_id == claim.expected_run_id and job.last_checkpoint_expired_at and not claim.fresh:
                raise StateExpired(
                    f"job_id={job_id!r} can no longer be resumed: its last.pt has just been deleted. Set "
                    "fresh=true to start over"
                )
            raise explain_loss(job_id, run_id, job) if job.was_cancelled and job.run_id == run_id else taken
        if job_id.isdigit() and self._statements.fetch_one("count_key_triggers") != (0,):
            raise JobNotCreatable(
                f"Job {job_id} has no row in training_jobs, and the host application that owns the table "
                f"uses the table's numeric key as job_id, so it could create row {job_id} itself later. "
                f"Pass the job_id of an existing row, or a name that is not a number."
            )
        try:
            self._statements.execute("create_job", **values)
        except errors.UniqueViolation as error:
            raise taken from error
        except errors.NotNullViolation as error:
            raise JobNotCreatable(
                f"Job {job_id} has no row in training_jobs, and only the host application that owns the "
                f"table can create one, because column {error.diag.column_name} is mandatory. "
                f"Pass the job_id of an existing row."
            ) from error
        except errors.StringDataRightTruncation as error:
            raise JobNotCreatable(
                f"Job {job_id} does not fit into training_jobs: {error.diag.message_primary}. "
                f"Choose a shorter job_id, or widen the column of that type."
            ) from error
