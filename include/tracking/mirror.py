"""Mirrors a job to MLflow: its row and its epochs, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from include.checkpoints.checkpoint import CHECKPOINT_KINDS
from include.jobs.job import JobStatus
from include.tracking.answers import Metric

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from include.jobs.job import RecordedEpoch, TrainingJob
    from include.tracking.answers import Run, RunStatus
    from include.tracking.server import TrackingServer

JOB_TAG = "training.job_id"
ORIGIN_TAG = "training.origin_run_id"
"""Together, the two tags identify a training run in MLflow."""

PARENT_TAG = "mlflow.parentRunId"
"""MLflow's UI uses this tag to show a resumed job below the job that it continues."""

_STATUS: dict[str | None, RunStatus] = {
    JobStatus.QUEUED: "SCHEDULED",
    JobStatus.COMPLETED: "FINISHED",
    JobStatus.STOPPED: "KILLED",
    JobStatus.FAILED: "FAILED",
}
"""MLflow's status for these job statuses; for all others it is RUNNING."""
_FORBIDDEN_IN_NAMES = re.compile(r"[^\w/.\- ]", re.ASCII)
"""Characters that some versions of MLflow do not accept in a name."""


@dataclass
class _StoredRun:
    """The values that MLflow has stored for the job, as far as this process knows."""

    run_id: str
    """Id of the job's MLflow run."""
    status: str
    """MLflow's status of the run, as in RunInfo."""
    params: set[str]
    """Names of the parameters."""
    tags: dict[str, str]
    """Values of the tags, by name."""
    points: set[tuple[str, int, float]]
    """Metric, step and value of each stored point."""

    @classmethod
    def fetch(cls, run: Run, server: TrackingServer) -> _StoredRun:
        """Fetch everything that the run contains, including all metric values."""
        return cls(
            run_id=run.info.run_id,
            status=run.info.status,
            params={item.key for item in run.data.params},
            tags={item.key: item.value for item in run.data.tags},
            points={
                _identify_point(item)
                for latest in run.data.metrics
                for item in server.fetch_history(run.info.run_id, latest.key)
            },
        )


class JobMirror:
    """The MLflow run of one training run. Any attempt can find it again and send the missing values.

    A value that is sent twice is stored once, even if a response was lost. So any attempt on any machine can
    send everything that is recorded. `lock` keeps other processes from creating the job's run at the same
    time, or raises TrackingError if another process is creating it. Not thread-safe.
    """

    def __init__(self, server: TrackingServer, lock: Callable[[], AbstractContextManager[object]]) -> None:
        self._server, self._lock = server, lock
        self._known: _StoredRun | None = None

    def send(self, job: TrainingJob, epochs: Iterable[RecordedEpoch]) -> None:
        """Update the run to match the row and these epochs. After a TrackingError, send all epochs again."""
        known = self._known or self._open(job)
        # If a call fails, it is unknown which values have arrived, so they must be fetched again.
        self._known = None
        metrics = [
            item for item in _collect_metrics(job, epochs) if _identify_point(item) not in known.points
        ]
        params = {key: value for key, value in _collect_params(job).items() if key not in known.params}
        tags = {key: value for key, value in _collect_tags(job).items() if known.tags.get(key, "") != value}
        self._server.log(known.run_id, metrics, params, tags)
        status: RunStatus = _STATUS.get(job.status, "RUNNING")
        if status != known.status:
            ended = job.completed_at or job.updated_at if job.has_ended else None
            self._server.set_status(known.run_id, status, _count_milliseconds(ended) if ended else None)
        known.points |= {_identify_point(item) for item in metrics}
        known.params |= params.keys()
        known.tags |= tags
        known.status = status
        self._known = known

    def _open(self, job: TrainingJob) -> _StoredRun:
        experiment = self._server.require_experiment()
        run = self._find(experiment, job)
        if run is None:
            with self._lock():
                run = self._find(experiment, job) or self._create(experiment, job)
        known = _StoredRun.fetch(run, self._server)
        if job.parent_job_id is not None and PARENT_TAG not in known.tags:
            parents = self._server.find_runs(experiment, JOB_TAG, job.parent_job_id)
            if parents:
                parent = {PARENT_TAG: parents[-1].info.run_id}
                self._server.log(known.run_id, [], {}, parent)
                known.tags |= parent
        return known

    def _find(self, experiment: str, job: TrainingJob) -> Run | None:
        for run in self._server.find_runs(experiment, JOB_TAG, job.job_id):
            if any(item.key == ORIGIN_TAG and item.value == job.origin_run_id for item in run.data.tags):
                return run
        return None

    def _create(self, experiment: str, job: TrainingJob) -> Run:
        # created_at comes last: if a job is started over, its row was created for an earlier training run,
        # which is another run in MLflow. MLflow does not allow the start time to be changed later.
        started = job.started_at or job.queued_at or job.created_at
        return self._server.create_run(
            experiment, job.job_id, _count_milliseconds(started) if started else 0, _collect_tags(job)
        )


def _collect_params(job: TrainingJob) -> dict[str, str]:
    """Return the given parameters and our own defaults; all other parameters have Ultralytics' defaults."""
    given = {key: value for key, value in (job.spec or {}).items() if value is not None}
    overrides = given.pop("overrides", {})
    return {_clean_name(key): str(value) for key, value in {**given, **overrides}.items()}


def _collect_tags(job: TrainingJob) -> dict[str, str]:
    """Return the tags; those without a value in the row are empty, to overwrite an earlier attempt's tags."""
    checkpoints = {
        f"checkpoint.{kind}.{what}": getattr(job.get_checkpoint(kind), what, None)
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


def _collect_metrics(job: TrainingJob, epochs: Iterable[RecordedEpoch]) -> Iterator[Metric]:
    """Yield the metrics of each epoch and, if a best.pt was recorded, its metrics as `best/…`.

    The step is the epoch, counted from 0.
    """
    for epoch in epochs:
        own = {"fitness": epoch.fitness, "epoch_seconds": epoch.seconds}
        for key, value in {**epoch.metrics, **own}.items():
            if value is not None:
                yield Metric(
                    key=_clean_name(key),
                    value=value,
                    timestamp=_count_milliseconds(epoch.recorded_at),
                    step=epoch.epoch,
                )
    if job.has_ended_well and job.updated_at is not None:
        for key, value in (job.metrics or {}).items():
            if isinstance(value, int | float):
                yield Metric(
                    key=f"best/{_clean_name(key)}",
                    value=value,
                    timestamp=_count_milliseconds(job.updated_at),
                    step=job.epoch or 0,
                )


def _clean_name(name: str) -> str:
    """Return a name that MLflow accepts: `metrics/mAP50B` for `metrics/mAP50(B)`, as Ultralytics does."""
    return _FORBIDDEN_IN_NAMES.sub("", name)


def _identify_point(metric: Metric) -> tuple[str, int, float]:
    return metric.key, metric.step, metric.value


def _count_milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
