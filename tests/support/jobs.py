"""Jobs claimed by a run, for tests of the recorded rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg

from include.claim.resolved_job import ResolvedJob
from include.jobs.claim import JobClaim
from include.jobs.job import TrainingJob
from include.jobs.repository import JobRepository
from include.jobs.spec import ResolvedSpec, TrainingSpec
from include.queries import load_query
from include.training.contract import EpochReport
from tests.support.waiting import until


def claim(
    jobs: JobRepository, job_id: str = "a", run_id: str = "run1", expected: str | None = None, **given: Any
) -> TrainingJob:
    values: dict[str, Any] = {
        "dag_id": "train_yolo",
        "spec": {"lr0": 0.01},
        "epochs": 3,
        "parent_job_id": None,
        "resumed_epoch": None,
        "triggered_by": "ada",
        "fresh": False,
    } | given
    return jobs.claim(JobClaim(job_id, run_id=run_id, expected_run_id=expected, **values))


def small_detection(dataset: str | Path, model: str, **overrides: Any) -> ResolvedSpec:
    """Return the parameters of a job that trains a detector for two epochs on a CPU."""
    return TrainingSpec(
        dataset=str(dataset), model=model, task="detect", epochs=2, imgsz=64, batch=4, device="cpu",
        overrides=overrides,
    ).with_defaults()  # fmt: skip


def resolved(spec: ResolvedSpec) -> ResolvedJob:
    """Return job a of run1 with these parameters."""
    return ResolvedJob(job_id="a", dag_id="train_yolo", run_id="run1", origin_run_id="run1", spec=spec)


def started(jobs: JobRepository, *, epochs: int = 0, attempt: int = 1) -> TrainingJob:
    """Start an attempt at job a of run1, with `epochs` epochs finished and durable; return the row."""
    claim(jobs)
    jobs.leave_queue("a", "run1", attempt)
    jobs.start_training("a", "run1", attempt, first_epoch=0)
    for epoch in range(epochs):
        jobs.record_epoch("a", "run1", attempt, epoch_report(epoch, loss=epoch / 2))
        jobs.record_durable("a", "run1", attempt, epoch)
    return recorded(jobs)


def recorded(jobs: JobRepository, job_id: str = "a") -> TrainingJob:
    """Return the row of a job that exists."""
    job = jobs.get(job_id)
    assert job is not None
    return job


def record_checkpoints(
    connection: psycopg.Connection[Any], run_id: str = "run1", status: str = "completed", job_id: str = "a"
) -> int:
    """Record checkpoints with string values, as the task's templates do; return the number of rows."""
    parameters = {
        "job_id": job_id,
        "run_id": run_id,
        "status": status,
        "epoch": "2",
        "batch": "0",
        "epochs": "3",
        "metrics": '{"metrics/mAP50(B)": 0.9, "val/box_loss": null}',
        "best_checkpoint_path": f"s3://bucket/checkpoints/{job_id}/best.pt",
        "best_checkpoint_sha256": "b" * 64,
        "best_checkpoint_size": "5368709121",
        "last_checkpoint_path": f"s3://bucket/checkpoints/{job_id}/last.pt",
        "last_checkpoint_sha256": "c" * 64,
        "last_checkpoint_size": "5368709122",
    }
    written = len(connection.execute(load_query("record_checkpoints"), parameters).fetchall())
    connection.commit()
    return written


def epoch_report(epoch: int = 0, **metrics: float | None) -> EpochReport:
    return EpochReport(
        epoch=epoch,
        epochs=3,
        metrics=metrics,
        fitness=0.5,
        seconds=1.5,
        eta_seconds=3.0,
        is_best=True,
        inexact_reason=None,
        trained_seconds=0.0,
    )


def wait_until_blocked(connection: psycopg.Connection[Any], backend: int) -> None:
    """Wait until the server process `backend` is blocked by another process's lock."""
    blocked = "SELECT pg_blocking_pids(%s) <> '{}'"
    until(
        lambda: connection.execute(blocked, [backend]).fetchone() == (True,),
        f"server process {backend} is blocked",
        seconds=30,
        pause=0.05,
    )
