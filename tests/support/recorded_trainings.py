"""Training runs written directly into the tables, so that no test has to wait for an epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from include.deployment.settings import DEFAULT_BUCKET
from include.stack.local import Stack
from tests.support import host_applications

SPEC = {"task": "detect", "dataset": "digits", "model": "yolo11n.yaml", "imgsz": 64, "batch": 16, "lr0": 0.01}


FORGOTTEN_RUN = "manual__2026-01-01"
"""The run of the failed job; Airflow no longer has this run, because it does not keep runs for ever."""


def metrics(epoch: int) -> dict[str, float]:
    """Return the metrics of a detection run after an epoch (from 0), by Ultralytics' names."""
    learned = 1 - math.exp(-(epoch + 1) / 6)
    falling = {
        f"{split}/{part}_loss": round(first * (1.15 - 0.9 * learned) * (1.1 if split == "val" else 1), 5)
        for split in ("train", "val")
        for part, first in (("box", 1.9), ("cls", 3.1), ("dfl", 1.6))
    }
    rising = {
        "metrics/precision(B)": round(0.93 * learned, 5),
        "metrics/recall(B)": round(0.9 * learned, 5),
        "metrics/mAP50(B)": round(0.95 * learned, 5),
        "metrics/mAP50-95(B)": round(0.74 * learned, 5),
    }
    return falling | rising | {"lr/pg0": round(0.01 * (1 - epoch / 40), 6)}


def fitness(epoch: int) -> float:
    """Return Ultralytics' fitness for the metrics of an epoch."""
    return 0.1 * metrics(epoch)["metrics/mAP50(B)"] + 0.9 * metrics(epoch)["metrics/mAP50-95(B)"]


def record_training(
    connection: psycopg.Connection[Any],
    job_id: str,
    *,
    status: str = "completed",
    epochs: int = 12,
    finished: int | None = None,
    age: timedelta = timedelta(hours=1),
    spec: dict[str, Any] | None = None,
    **columns: Any,
) -> None:
    """Record a job that began `age` ago and has finished `finished` of its epochs (by default all)."""
    finished = epochs if finished is None else finished
    began = datetime.now(UTC) - age
    row: dict[str, Any] = {
        "job_id": job_id,
        "status": status,
        "dag_id": None,
        "run_id": None,
        "spec": Jsonb(SPEC | {"job_id": job_id, "epochs": epochs} | (spec or {})),
        "epochs": epochs,
        "epoch": finished - 1 if finished else None,
        "durable_epoch": finished - 1 if finished else None,
        "metrics": Jsonb(metrics(finished - 1)) if finished else None,
        "triggered_by": "ada",
        "created_at": began,
        "started_at": began,
        "updated_at": began + timedelta(seconds=20 * finished),
    }
    if status == "completed":
        row["completed_at"] = row["updated_at"]
        for kind, size in (("best", 5_514_370), ("last", 16_342_981)):
            row[f"{kind}_checkpoint_path"] = f"s3://{DEFAULT_BUCKET}/checkpoints/{job_id}/{kind}.pt"
            row[f"{kind}_checkpoint_sha256"] = "0123456789abcdef" * 4
            row[f"{kind}_checkpoint_size"] = size
    _insert(connection, "training_jobs", row | columns)
    for epoch in range(finished):
        record_epoch(connection, job_id, epoch, epochs, began + timedelta(seconds=20 * (epoch + 1)))


def record_kinds(connection: psycopg.Connection[Any], prefix: str) -> None:
    """Record a parent and its child, a failed job and a running job, from oldest to newest."""
    hours = [timedelta(hours=each) for each in (5, 4, 3, 2)]
    record_training(connection, f"{prefix}parent", epochs=12, age=hours[0])
    record_training(
        connection,
        f"{prefix}child",
        epochs=20,
        age=hours[1],
        spec={"resume_from": f"{prefix}parent"},
        parent_job_id=f"{prefix}parent",
        resumed_epoch=11,
    )
    record_training(
        connection,
        f"{prefix}failed",
        status="failed",
        finished=4,
        age=hours[2],
        spec={"dataset": "s3://street-signs/2026-11.zip", "model": "yolo11s.pt", "lr0": 0.002},
        error="Loss of epoch 5 is not finite. Start a new job with a smaller lr0 and a named optimizer.",
        dag_id="train_yolo",
        run_id=FORGOTTEN_RUN,
    )
    record_training(connection, f"{prefix}running", status="running", epochs=50, finished=7, age=hours[3])


def record_epoch(
    connection: psycopg.Connection[Any], job_id: str, epoch: int, epochs: int, moment: datetime | None = None
) -> None:
    """Record a finished epoch, counted from 0."""
    row = {
        "job_id": job_id,
        "epoch": epoch,
        "metrics": Jsonb(metrics(epoch)),
        "fitness": fitness(epoch),
        "seconds": 20.0,
        "eta_seconds": 20.0 * (epochs - epoch - 1),
        "recorded_at": moment or datetime.now(UTC),
    }
    _insert(connection, "training_epochs", row)


def finish_epoch(connection: psycopg.Connection[Any], job_id: str, epoch: int, epochs: int) -> None:
    """Record that a running job has finished an epoch."""
    record_epoch(connection, job_id, epoch, epochs)
    connection.execute(
        "UPDATE training_jobs SET epoch = %s, durable_epoch = %s, metrics = %s, updated_at = now() "
        "WHERE job_id = %s",
        [epoch, epoch, Jsonb(metrics(epoch)), job_id],
    )


@contextmanager
def recording(stack: Stack, prefix: str) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection to the stack's training database; afterwards remove jobs with this id prefix."""
    host_applications.migrate(stack)
    with psycopg.connect(stack.training_db_url, autocommit=True) as connection:
        yield connection
    with psycopg.connect(stack.training_db_url, autocommit=True) as connection:
        for table in ("training_jobs", "training_epochs", "gpu_usage"):
            connection.execute(f"DELETE FROM {table} WHERE starts_with(job_id, %s)", [prefix])


def _insert(connection: psycopg.Connection[Any], table: str, row: dict[str, Any]) -> None:
    names, places = ", ".join(row), ", ".join(f"%({name})s" for name in row)
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", row)
