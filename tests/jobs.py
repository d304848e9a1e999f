"""Jobs as a run claims them, for tests of what is recorded."""

from __future__ import annotations

from typing import Any

from include.jobs.job import TrainingJob
from include.jobs.repository import JobRepository
from include.training.contract import EpochReport


def claim(
    jobs: JobRepository, job_id: str = "a", run_id: str = "run1", expected: str | None = None, **given: Any
) -> TrainingJob:
    values: dict[str, Any] = {
        "dag_id": "train_yolo",
        "spec": {"lr0": 0.01},
        "epochs": 3,
        "parent_job_id": None,
        "triggered_by": "ada",
    } | given
    return jobs.claim(job_id, run_id=run_id, expected_run_id=expected, **values)


def epoch_report(epoch: int = 0, **metrics: float | None) -> EpochReport:
    return EpochReport(epoch=epoch, epochs=3, metrics=metrics, fitness=0.5, seconds=1.5, eta_seconds=3.0)
