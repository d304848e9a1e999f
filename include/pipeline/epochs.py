"""What happens at the end of each epoch: its numbers are recorded, and its state becomes durable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.checkpoints.publisher import Snapshot
from include.jobs.repository import JobRepository, OwnershipLost

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from psycopg import Connection

    from include.checkpoints.publisher import BackgroundPublisher
    from include.jobs.job import TrainingJob
    from include.pipeline.epoch_recorder import EpochRecorder
    from include.pipeline.preemption import Interruption
    from include.pipeline.recovery import Beginning
    from include.pipeline.tracking import Tracker
    from include.training.contract import EpochReport


@dataclass(frozen=True)
class JobRecord:
    """The job's row as one attempt writes it: every statement names run and attempt.

    open connects to the training database; each method does so once, from any thread. Those that write raise
    OwnershipLost where another run, or a newer attempt, owns the job by now.
    """

    job_id: str
    run_id: str
    attempt: int
    open: Callable[[], AbstractContextManager[Connection[Any]]]

    def own(self) -> TrainingJob:
        """The row as it is now, if it is this attempt's to write."""
        with self.open() as connection:
            return JobRepository(connection).require_owner(self.job_id, self.run_id, self.attempt)

    def begin(self, beginning: Beginning) -> int:
        """The attempt begins; returns how many recorded epochs it repeats. What was not recorded now is."""
        with self.open() as connection:
            jobs = JobRepository(connection)
            repeated = jobs.start_training(self.job_id, self.run_id, self.attempt, beginning.epoch + 1)
            jobs.fill_epochs(self.job_id, beginning.finished)
        return repeated

    def epoch(self, report: EpochReport) -> bool:
        """Record a finished epoch; returns whether the job is to stop."""
        with self.open() as connection:
            return JobRepository(connection).record_epoch(self.job_id, self.run_id, self.attempt, report)

    def durable(self, epoch: int) -> None:
        """Record that the state after `epoch` is in S3."""
        with self.open() as connection:
            JobRepository(connection).record_durable(self.job_id, self.run_id, self.attempt, epoch)

    def inexact(self, reason: str) -> None:
        """Record why the weights need not be those of an uninterrupted training."""
        with self.open() as connection:
            JobRepository(connection).record_inexact(self.job_id, self.run_id, self.attempt, reason)


class EpochEnd:
    """An EpochReporter: records every epoch, and hands a snapshot of its state to the publisher.

    SIGTERM waits until both have happened: the state that was just saved is the one to make durable.
    """

    def __init__(
        self,
        recorder: EpochRecorder,
        publisher: BackgroundPublisher,
        tracker: Tracker,
        interruption: Interruption,
        last: Path,
        snapshots: Path,
    ) -> None:
        self._recorder, self._publisher, self._tracker = recorder, publisher, tracker
        self._interruption = interruption
        self._last, self._snapshots = last, snapshots

    def report(self, epoch: EpochReport) -> bool:
        """Record `epoch`, let its state become durable, and say whether to go on."""
        from include.training.saving import snapshot

        with self._interruption.held():
            try:
                stop = self._recorder.record(epoch)  # first: whoever is not the owner any more stores nothing
            except OwnershipLost:
                self._publisher.close(0)
                raise
            self._tracker.recorded()
            private = self._snapshots / f"last-{epoch.epoch}.pt"
            snapshot(self._last, private)
            # Without validation every epoch is the best: then best.pt is sent in the end, and made of last.pt
            # where this attempt does not get there.
            is_best = epoch.is_best and epoch.fitness is not None
            self._publisher.publish(Snapshot(epoch.epoch, private, is_best))
        self._interruption.check()
        return not stop
