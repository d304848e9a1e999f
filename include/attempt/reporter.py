"""Runs training, and reports on it: writes epochs and progress to the job's row, and states to S3."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from include.attempt.epoch_recorder import EpochRecorder
from include.attempt.memory_watch import MemoryWatch
from include.checkpoints.publisher import BackgroundPublisher
from include.checkpoints.snapshot import PublishLimits, Snapshot
from include.deployment.retrying import retry_while_unavailable
from include.errors import OwnershipLost
from include.jobs.job import StopRequest
from include.training.contract import MemoryShort
from include.training.environment import isolate_ultralytics

if TYPE_CHECKING:
    from pathlib import Path

    from include.attempt.job_record import JobRecord
    from include.attempt.preemption import Termination
    from include.attempt.starting_point import StartingPoint
    from include.attempt.tracking import Tracker
    from include.checkpoints.checkpoint import Position
    from include.checkpoints.store import CheckpointStore
    from include.claim.resolved_job import ResolvedJob
    from include.training.contract import (
        EpochReport,
        SavedState,
        TrainingProgress,
        TrainingRequest,
        TrainingResult,
    )

_DRAIN_SECONDS = 60.0
"""Time limit for uploading the last snapshot. The final files are uploaded next; their limit is longer."""

_GRACE_SECONDS = 90.0
"""Time limit for the last upload after a preemption or an error. It must be less than the two minutes that
Compose and `make down` wait before they kill the process."""


def train_and_report(
    request: TrainingRequest,
    job: ResolvedJob,
    start: StartingPoint,
    row: JobRecord,
    store: CheckpointStore,
    tracker: Tracker,
    termination: Termination,
    snapshots: Path,
) -> TrainingResult:
    """Train from `start` to the end, or until a user stops the job, and return the outcome.

    When this returns, every epoch is recorded, but the newest state may not be in S3 yet. `snapshots` is the
    folder in which states wait to be uploaded. Raises Preempted, MemoryShort, OwnershipLost, and all errors
    of the trainer.
    """
    isolate_ultralytics()
    from ultralytics import __version__

    publisher = BackgroundPublisher(
        store,
        job.job_id,
        __version__,
        row.record_durable,
        PublishLimits(every_epochs=job.spec.publish_every),
        durable=(start.epoch, start.batch) if start.last is not None else None,
        drain_seconds=_DRAIN_SECONDS,
        grace_seconds=_GRACE_SECONDS,
    )
    with EpochRecorder(row) as recorder:
        with MemoryWatch() as memory, publisher:
            reporter = JobReporter(
                recorder,
                publisher,
                tracker,
                termination,
                memory,
                request.save_dir / "weights" / "last.pt",
                snapshots,
                job.spec.publish_seconds,
                start.trained_seconds,
            )
            result = _train_until_stopped(request, reporter)
        retry_while_unavailable(recorder.flush)
    return result


def _train_until_stopped(request: TrainingRequest, reporter: JobReporter) -> TrainingResult:
    """Train; if a user asks for an immediate stop, finish the job from the last saved state."""
    from include.training.run import train

    try:
        return train(request, reporter, reporter)
    except StoppedNow:
        weights = request.save_dir / "weights"
        best = weights / "best.pt"
        stopped = replace(
            request,
            resume_from=weights / "last.pt",
            best_from=best if best.exists() else None,
            recover=True,
            was_stopped=True,
        )
        return train(stopped, reporter, reporter)


class StoppedNow(BaseException):
    """A user stopped the job, and its newest state has been saved. Like Preempted, not an Exception."""


class JobReporter:
    """An EpochReporter and StateReporter that records epochs and progress, and publishes states.

    It asks for a state whenever the last one is `publish_seconds` of training old, or would become that old
    during the validation that follows. Except in a repeated epoch, it asks for a final state as soon as
    SIGTERM arrives, memory is short, or a user stops the job immediately. When the final state has been
    saved, it raises Preempted, MemoryShort or StoppedNow.
    """

    def __init__(
        self,
        recorder: EpochRecorder,
        publisher: BackgroundPublisher,
        tracker: Tracker,
        termination: Termination,
        memory: MemoryWatch,
        last: Path,
        snapshots: Path,
        publish_seconds: float,
        trained_seconds: float = 0.0,
    ) -> None:
        self._recorder, self._publisher, self._tracker = recorder, publisher, tracker
        self._termination, self._memory = termination, memory
        self._last, self._snapshots = last, snapshots
        self._publish_seconds = publish_seconds
        self._saved_seconds = trained_seconds
        self._saved: Position | None = None
        self._wanted_at: Position | None = None
        self._validation_started: float | None = None
        self._validation_seconds = 0.0

    def report(self, epoch: EpochReport) -> bool:
        """Record `epoch`; return whether to continue. Meanwhile, the trainer saves the epoch's state."""
        with self._termination.deferred():
            try:
                stop = self._recorder.record(epoch)
            except OwnershipLost:
                self._publisher.close(0)
                raise
            self._tracker.notify()
        self._termination.check()
        return not stop

    def report_progress(self, progress: TrainingProgress) -> bool:
        """Record the progress; return whether to save the state now."""
        self._termination.await_batch()
        self._memory.note_start()
        try:
            with self._termination.deferred():
                stop = self._recorder.record_progress(progress)
        except OwnershipLost:
            self._publisher.close(0)
            raise
        if progress.is_repeated:
            # No state is saved in a repeated epoch, so only a preemption may interrupt it.
            self._termination.check()
            return False
        is_to_end = self._termination.is_requested or self._memory.shortage or stop is StopRequest.NOW
        if not is_to_end:
            return self._is_due(progress)
        if self._wanted_at is None:
            self._wanted_at = (progress.epoch, progress.batch)
        if self._saved is not None and self._saved >= self._wanted_at:
            self._termination.check()
            if self._memory.shortage:
                raise MemoryShort(self._memory.shortage)
            raise StoppedNow
        return True

    def report_state(self, state: SavedState) -> None:
        """Hand the state to the publisher, which uploads it in the background."""
        from include.training.saving import link_or_copy

        name = f"{state.epoch}-{state.batch}.pt"
        last, best = self._snapshots / f"last-{name}", None
        link_or_copy(self._last, last)
        if state.is_best:
            best = self._snapshots / f"best-{name}"
            link_or_copy(self._last.with_name("best.pt"), best)
        self._publisher.publish(Snapshot(state.epoch, last, best, state.batch))
        self._saved, self._saved_seconds = (state.epoch, state.batch), state.trained_seconds

    def _is_due(self, progress: TrainingProgress) -> bool:
        ahead = 0.0
        if self._validation_started is not None:
            self._validation_seconds = progress.trained_seconds - self._validation_started
            self._validation_started = None
        if progress.batch == progress.batches:
            self._validation_started, ahead = progress.trained_seconds, self._validation_seconds
        return progress.trained_seconds + ahead - self._saved_seconds >= self._publish_seconds
