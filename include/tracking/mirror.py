"""What a job looks like in MLflow: its row and its epochs, and nothing that is not in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from include.checkpoints.checkpoint import CHECKPOINT_KINDS
from include.jobs.job import JobStatus
from include.tracking.server import Metric

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from include.jobs.job import RecordedEpoch, TrainingJob
    from include.tracking.server import Run, TrackingServer

JOB_TAG = "training.job_id"
ORIGIN_TAG = "training.origin_run_id"
"""Together they name a training: MLflow's run of it is the one that has both."""

PARENT_TAG = "mlflow.parentRunId"
"""By this one MLflow's UI shows a resumed job below the job that it continues."""

_STATUS: dict[str | None, str] = {
    JobStatus.QUEUED: "SCHEDULED",
    JobStatus.COMPLETED: "FINISHED",
    JobStatus.STOPPED: "KILLED",
    JobStatus.FAILED: "FAILED",
}
"""MLflow's status of a job in one of these; of every other RUNNING."""
_NO_NAME = re.compile(r"[^\w/.\- ]", re.ASCII)
"""What no version of MLflow takes in a name."""


@dataclass
class _Known:
    """What MLflow has of the job, as far as this process knows."""

    run_id: str
    status: str
    params: set[str]
    tags: dict[str, str]
    points: set[tuple[str, int, float]]

    @classmethod
    def of(cls, run: Run, server: TrackingServer) -> _Known:
        """Ask for every number that is there."""
        return cls(
            run_id=run.info.run_id,
            status=run.info.status,
            params={each.key for each in run.data.params},
            tags={each.key: each.value for each in run.data.tags},
            points={
                _point(each)
                for latest in run.data.metrics
                for each in server.history(run.info.run_id, latest.key)
            },
        )


class JobMirror:
    """MLflow's run of one training: found again by whoever goes on with it, and sent only what it lacks.

    Whatever is sent twice is there once, also after an answer that got lost; so any attempt, on any machine,
    can send all that is recorded. alone keeps every other process out that would create the run of this job,
    or raises TrackingError where one is at it. Use it in one thread.
    """

    def __init__(self, server: TrackingServer, alone: Callable[[], AbstractContextManager[object]]) -> None:
        self._server, self._alone = server, alone
        self._known: _Known | None = None

    def send(self, job: TrainingJob, epochs: Iterable[RecordedEpoch]) -> None:
        """Make the run say what the row and these epochs say. Raises TrackingError; then send all again."""
        known = self._known or self._open(job)
        # Until the last call has succeeded nobody knows what has arrived: then it is asked for again.
        self._known = None
        metrics = [each for each in _metrics(job, epochs) if _point(each) not in known.points]
        params = {key: value for key, value in _params(job).items() if key not in known.params}
        tags = {key: value for key, value in _tags(job).items() if known.tags.get(key, "") != value}
        self._server.log(known.run_id, metrics, params, tags)
        status = _STATUS.get(job.status, "RUNNING")
        if status != known.status:
            ended = job.completed_at or job.updated_at if job.has_ended else None
            self._server.set_status(known.run_id, status, _milliseconds(ended) if ended else None)
        known.points |= {_point(each) for each in metrics}
        known.params |= params.keys()
        known.tags |= tags
        known.status = status
        self._known = known

    def _open(self, job: TrainingJob) -> _Known:
        experiment = self._server.experiment_id()
        run = self._find(experiment, job)
        if run is None:
            with self._alone():
                run = self._find(experiment, job) or self._create(experiment, job)
        known = _Known.of(run, self._server)
        if job.parent_job_id is not None and PARENT_TAG not in known.tags:
            parents = self._server.runs(experiment, JOB_TAG, job.parent_job_id)
            if parents:
                parent = {PARENT_TAG: parents[-1].info.run_id}
                self._server.log(known.run_id, [], {}, parent)
                known.tags |= parent
        return known

    def _find(self, experiment: str, job: TrainingJob) -> Run | None:
        for run in self._server.runs(experiment, JOB_TAG, job.job_id):
            if any(each.key == ORIGIN_TAG and each.value == job.origin_run_id for each in run.data.tags):
                return run
        return None

    def _create(self, experiment: str, job: TrainingJob) -> Run:
        started = job.started_at or job.created_at
        return self._server.create_run(
            experiment, job.job_id, _milliseconds(started) if started else 0, _tags(job)
        )


def _params(job: TrainingJob) -> dict[str, str]:
    """Return what was given and what is our own default; what is left out is Ultralytics' default."""
    given = {key: value for key, value in (job.spec or {}).items() if value is not None}
    overrides = given.pop("overrides", {})
    return {_name(key): str(value) for key, value in {**given, **overrides}.items()}


def _tags(job: TrainingJob) -> dict[str, str]:
    """Empty where the row has nothing: a tag of an earlier attempt must not stay."""
    checkpoints = {
        f"checkpoint.{kind}.{what}": getattr(job.checkpoint(kind), what, None)
        for kind in CHECKPOINT_KINDS
        for what in ("path", "sha256", "size")
    }
    tags = {
        JOB_TAG: job.job_id,
        ORIGIN_TAG: job.origin_run_id,
        "training.dag_id": job.dag_id,
        "training.run_id": job.run_id,
        "training.parent_job_id": job.parent_job_id,
        "training.initial_weights_sha256": job.initial_weights_sha256,
        "training.queued_at": job.queued_at,
        "training.started_at": job.started_at,
        "training.waited_seconds": job.waited_seconds,
        "training.inexact_reason": job.inexact_reason,
        "training.error": job.error,
        "mlflow.user": job.triggered_by,
        "mlflow.source.name": job.dag_id,
        "mlflow.source.type": "JOB",
        **checkpoints,
    }
    return {key: "" if value is None else str(value) for key, value in tags.items()}


def _metrics(job: TrainingJob, epochs: Iterable[RecordedEpoch]) -> Iterator[Metric]:
    """Each epoch's numbers at its step, from 0; of a job that ended also those of best.pt, as `best/…`."""
    for epoch in epochs:
        own = {"fitness": epoch.fitness, "epoch_seconds": epoch.seconds}
        for key, value in {**epoch.metrics, **own}.items():
            if value is not None:
                yield Metric(
                    key=_name(key),
                    value=value,
                    timestamp=_milliseconds(epoch.recorded_at),
                    step=epoch.epoch,
                )
    if job.has_ended_well and job.updated_at is not None:
        for key, value in (job.metrics or {}).items():
            if isinstance(value, int | float):
                yield Metric(
                    key=f"best/{_name(key)}",
                    value=value,
                    timestamp=_milliseconds(job.updated_at),
                    step=job.epoch or 0,
                )


def _name(name: str) -> str:
    """`metrics/mAP50(B)` as `metrics/mAP50B`, which is what Ultralytics' own callback calls it."""
    return _NO_NAME.sub("", name)


def _point(metric: Metric) -> tuple[str, int, float]:
    return metric.key, metric.step, metric.value


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
