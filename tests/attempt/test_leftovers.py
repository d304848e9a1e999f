"""A training run frees the disk of its machine from the files of earlier jobs: no other task runs there."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from include.attempt.attempt import TrainingAttempt
from include.attempt.leftovers import MOST, remove_leftovers
from include.datasets import digits
from include.deployment.settings import Settings
from include.jobs.repository import JobRepository
from include.jobs.spec import TrainingSpec
from include.stack.s3 import S3
from include.tasks.train_yolo import train_job
from tests.support.airflow_connections import context_of, lead_to
from tests.support.auditing import World
from tests.support.faults.task_process import Notes
from tests.support.jobs import resolved, started

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def world(
    connection: psycopg.Connection[Any],
    s3_client: S3Client,
    s3: S3,
    bucket: str,
    migrated_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    lead_to(monkeypatch, migrated_url, s3, bucket, tmp_path)
    return World(connection, s3_client, bucket, tmp_path)


def leave(world: World, job_id: str, days: float = 2) -> Path:
    """Leave a job's folder, which has not changed for some days, on this machine."""
    weights = world.root / job_id / "runs" / "train" / "weights"
    weights.mkdir(parents=True)
    (weights / "last.pt").write_bytes(b"state")
    then = time.time() - days * 24 * 3600
    for path in (world.root / job_id, *(world.root / job_id).rglob("*")):
        os.utime(path, (then, then))
    return world.root / job_id


def test_folders_of_jobs_whose_files_are_intact_in_s3_are_removed(world: World) -> None:
    for job_id in ("completed", "recent", "damaged"):
        world.job(job_id)
    world.row("failed", status="failed")
    gone = leave(world, "completed")
    kept = [
        leave(world, "recent", days=0),
        leave(world, "damaged"),
        leave(world, "failed"),
        leave(world, "other"),
    ]
    world.damage(world.uri("damaged", "last.pt"))

    remove_leftovers(Settings.from_environment())

    assert not gone.exists()
    assert all(folder.exists() for folder in kept)


def test_a_few_folders_are_removed_at_a_time(world: World) -> None:
    for number in range(MOST + 1):
        world.job(f"job-{number}")
        leave(world, f"job-{number}")
    for left in (1, 0):
        remove_leftovers(Settings.from_environment())
        assert len(list(world.root.iterdir())) == left


def test_nothing_is_removed_and_nothing_fails_while_s3_does_not_respond(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.job("a")
    folder = leave(world, "a")
    monkeypatch.setenv(
        "AIRFLOW_CONN_TRAINING_S3", '{"conn_type": "aws", "extra": {"endpoint_url": "http://127.0.0.1:9"}}'
    )
    remove_leftovers(Settings.from_environment())
    assert folder.exists()


def test_each_training_run_that_has_ended_removes_them(
    world: World, jobs: JobRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.job("earlier")
    folder = leave(world, "earlier")
    started(jobs, epochs=1)
    monkeypatch.setattr(TrainingAttempt, "run", lambda self: "manifest")
    job = resolved(TrainingSpec(model="yolo11n", device="cpu").with_defaults())
    context = context_of(
        {},
        ti=SimpleNamespace(task_id="train", try_number=1, max_tries=100),
        task=SimpleNamespace(retry_policy=None),
        task_state_store=Notes(tmp_path / "notes.json"),
    )

    assert train_job(job, digits.build_reference(), context) == "manifest"  # type: ignore[comparison-overlap]

    assert not folder.exists()
