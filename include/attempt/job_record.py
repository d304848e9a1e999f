"""One attempt's access to the job's row in the training database."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.deployment.retrying import list_database_errors
from include.jobs.attempts import AttemptRepository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.attempt.starting_point import StartingPoint
    from include.database import OpenDatabase
    from include.jobs.job import StopRequest, TrainingJob
    from include.training.contract import EpochReport, TrainingProgress
    from include.training.gpus import Hardware


@dataclass(frozen=True)
class JobRecord:
    """The job's row, as one attempt uses it: every write checks that this run and attempt own the job.

    Methods may be called from any thread; each opens one connection. All methods that write raise
    OwnershipLost if another run, or a newer attempt, has taken over the job. `counting_gpu_use` is the
    exception: it then writes nothing, and does not raise.
    """

    job_id: str
    """The job that the row describes."""
    run_id: str
    """Dag run that the attempt belongs to."""
    attempt: int
    """Number of the attempt within that run."""
    open: OpenDatabase
    """Connects to the training database."""

    @property
    def _key(self) -> tuple[str, str, int]:
        return self.job_id, self.run_id, self.attempt

    def require_own(self) -> TrainingJob:
        """Return the row. Raises OwnershipLost if this attempt does not own it."""
        with self.open() as connection:
            return AttemptRepository(connection).require_owner(*self._key)

    def leave_queue(self, hardware: Hardware) -> None:
        """Record that the attempt has its GPU and that the job is running."""
        with self.open() as connection:
            AttemptRepository(connection).leave_queue(*self._key, hardware)

    @contextmanager
    def counting_gpu_use(self) -> Iterator[None]:
        """Count the attempt's GPUs as used until the block ends, not only until the attempt's last write.

        If the database is unavailable when the block ends, the GPUs count as used until the last write to the
        row.
        """
        try:
            yield
        finally:
            with suppress(*list_database_errors()), self.open() as connection:
                AttemptRepository(connection).extend_gpu_use(*self._key)

    def start_training(self, start: StartingPoint) -> int:
        """Record where the attempt starts; return how many recorded epochs it repeats.

        This also records any epochs in the state that have not been recorded yet.
        """
        with self.open() as connection:
            return AttemptRepository(connection).start_training(
                *self._key, start.epoch + 1, start.batch, start.trained_seconds, start.finished
            )

    def record_epoch(self, report: EpochReport) -> StopRequest:
        """Record a finished epoch; return whether the job should stop."""
        with self.open() as connection:
            return AttemptRepository(connection).record_epoch(*self._key, report)

    def record_progress(self, progress: TrainingProgress) -> StopRequest:
        """Record how much of the current epoch has been trained; return whether the job should stop."""
        with self.open() as connection:
            return AttemptRepository(connection).record_progress(*self._key, progress)

    def record_durable(self, epoch: int, batch: int) -> None:
        """Record that the state after `epoch` and `batch` batches of the next epoch is in S3."""
        with self.open() as connection:
            AttemptRepository(connection).record_durable(*self._key, epoch, batch)

    def record_inexact(self, reason: str) -> None:
        """Record why the weights may differ from those of an uninterrupted training run."""
        with self.open() as connection:
            AttemptRepository(connection).record_inexact(*self._key, reason)
