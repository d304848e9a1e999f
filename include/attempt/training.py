"""Runs training together with the threads that record epochs, upload states and watch memory use."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from include.attempt.epoch_recorder import EpochRecorder
from include.attempt.memory_watch import MemoryWatch
from include.attempt.reporter import JobReporter, StoppedNow
from include.checkpoints.publisher import BackgroundPublisher
from include.checkpoints.snapshot import PublishLimits
from include.deployment.retrying import retry_while_unavailable
from include.training.environment import isolate_ultralytics

if TYPE_CHECKING:
    from pathlib import Path

    from include.attempt.job_record import JobRecord
    from include.attempt.preemption import Termination
    from include.attempt.starting_point import StartingPoint
    from include.attempt.tracking import Tracker
    from include.checkpoints.store import CheckpointStore
    from include.claim.resolved_job import ResolvedJob
    from include.training.contract import TrainingRequest, TrainingResult

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
