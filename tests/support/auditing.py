"""Jobs in a real PostgreSQL with their objects in a real S3, and audits of them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from include.audit.audit import AuditScope, audit
from include.audit.liveness import Run
from include.audit.report import AuditReport
from include.audit.request import AuditRequest, RetentionPolicy
from include.audit.retention import RetentionReport, retain
from include.checkpoints.checkpoint import Checkpoint
from include.checkpoints.stored import build_metadata
from include.models.signing import ModelSigning
from include.s3.bucket import Bucket
from include.s3.conditional_writes import ConditionalWrites, Support
from tests.support.stored_objects import body, keys, metadata, replace

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BEST, LAST, PREVIOUS = b"best" * 1000, b"last" * 2000, b"the one before" * 500

WHOLE = {"best.pt", "last.pt", "last.previous.pt"}
NOTHING = RetentionPolicy(keep_newest=0, keep_best=0, expire_after_days=0, dry_run=False)

HONOURED = ConditionalWrites(*[Support.HONOURED] * 4)

LATER = timedelta(days=2)
"""Audits run two days in the future, when all objects of the test are old enough to be judged."""


@dataclass
class World:
    """The jobs and objects to audit; `live` are the Dag runs that Airflow would report as active."""

    connection: psycopg.Connection[Any]
    client: S3Client
    bucket: str
    root: Path
    live: set[Run] = field(default_factory=set)
    signing: ModelSigning = field(default_factory=ModelSigning)

    def live_runs(self, runs: Collection[Run]) -> set[Run]:
        return self.live & set(runs)

    def audit(self, later: timedelta = LATER, run_id: str = "audit", **request: Any) -> AuditReport:
        scope = AuditScope(
            self.connection,
            Bucket(self.client, self.bucket),
            self.root,
            self.live_runs,
            datetime.now(UTC) + later,
            HONOURED,
            self.signing,
        )
        return audit(scope, AuditRequest.parse(request), run_id)

    def findings(self, run_id: str = "audit") -> list[dict[str, Any]]:
        """Return the rows of `checkpoint_audits` for an audit run, in order."""
        with self.connection.transaction(), self.connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(
                "SELECT * FROM checkpoint_audits WHERE run_id = %s ORDER BY id", [run_id]
            ).fetchall()

    def finding(self) -> dict[str, Any]:
        """Return the only finding."""
        (found,) = self.findings()
        return found

    def uri(self, job_id: str, name: str) -> str:
        return f"s3://{self.bucket}/checkpoints/{job_id}/{name}"

    def put(self, uri: str, content: bytes, job_id: str = "a", epoch: int = 4) -> Checkpoint:
        """Store an object with the metadata that our trainer writes."""
        checkpoint = Checkpoint(uri, hashlib.sha256(content).hexdigest(), len(content), epoch)
        replace(self.client, uri, content, build_metadata(checkpoint, job_id, f"run of {job_id}", "8.4"))
        return checkpoint

    def job(self, job_id: str, previous: bytes | None = PREVIOUS, **columns: Any) -> None:
        """Add a completed job with its objects; `columns` override columns of its row."""
        best = self.put(self.uri(job_id, "best.pt"), BEST, job_id)
        last = self.put(self.uri(job_id, "last.pt"), LAST, job_id)
        if previous is not None:
            self.put(self.uri(job_id, "last.previous.pt"), previous, job_id, epoch=3)
        self.row(
            job_id,
            best_checkpoint_path=best.path,
            best_checkpoint_sha256=best.sha256,
            best_checkpoint_size=best.size,
            last_checkpoint_path=last.path,
            last_checkpoint_sha256=last.sha256,
            last_checkpoint_size=last.size,
            **columns,
        )

    def row(self, job_id: str, **columns: Any) -> None:
        """Add the row of a job that was trained here."""
        values = {
            "job_id": job_id,
            "status": "completed",
            "dag_id": "train_yolo",
            "run_id": f"run of {job_id}",
            "origin_run_id": f"run of {job_id}",
            "spec": {"model": "yolo11n", "dataset": "digits"},
            "durable_epoch": 4,
        } | columns
        row = {name: Jsonb(value) if isinstance(value, dict) else value for name, value in values.items()}
        self.connection.execute(
            f"INSERT INTO training_jobs ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})",
            list(row.values()),
        )
        self.connection.commit()

    def change(self, job_id: str, **columns: Any) -> None:
        changes = ", ".join(f"{name} = %s" for name in columns)
        self.connection.execute(
            f"UPDATE training_jobs SET {changes} WHERE job_id = %s", [*columns.values(), job_id]
        )
        self.connection.commit()

    def get(self, job_id: str) -> dict[str, Any]:
        with self.connection.transaction(), self.connection.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute("SELECT * FROM training_jobs WHERE job_id = %s", [job_id]).fetchone()
        assert row is not None
        return row

    def body(self, uri: str) -> bytes:
        return body(self.client, uri)

    def metadata(self, uri: str) -> dict[str, str]:
        return metadata(self.client, uri)

    def damage(self, uri: str) -> None:
        """Change a byte of the object, but keep its size and metadata, as a bad disk does."""
        content = bytearray(self.body(uri))
        content[len(content) // 2] ^= 1
        replace(self.client, uri, bytes(content), self.metadata(uri))

    def remove(self, uri: str) -> None:
        key = uri.removeprefix(f"s3://{self.bucket}/")
        self.client.delete_object(Bucket=self.bucket, Key=key)

    def names(self, job_id: str) -> set[str]:
        """Return the names of the objects below the job's prefix."""
        prefix = f"checkpoints/{job_id}/"
        return {key.removeprefix(prefix) for key in keys(self.client, self.bucket, prefix)}

    def clear(self) -> None:
        """Remove all objects, one page per request."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        for page in pages:
            found = [{"Key": item["Key"]} for item in page.get("Contents", [])]
            self.client.delete_objects(Bucket=self.bucket, Delete={"Objects": found})  # type: ignore[typeddict-item]

    def plant(self, jobs: int, start: int = 0) -> None:
        """Add completed jobs that ended long ago and have three tiny objects each."""
        of_byte = Checkpoint("", hashlib.sha256(b"x").hexdigest(), 1, epoch=4)
        ids = [f"planted-{number:06d}" for number in range(start, start + jobs)]

        def put(planted: tuple[str, str]) -> None:
            job_id, name = planted
            self.client.put_object(
                Bucket=self.bucket,
                Key=f"checkpoints/{job_id}/{name}",
                Body=b"x",
                Metadata=build_metadata(of_byte, job_id, "run", "8.4"),
            )

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(put, product(ids, ("best.pt", "last.pt", "last.previous.pt"))))
        columns = [
            "job_id", "status", "dag_id", "run_id", "spec", "durable_epoch", "completed_at",
            "best_checkpoint_path", "best_checkpoint_sha256", "best_checkpoint_size",
            "last_checkpoint_path", "last_checkpoint_sha256", "last_checkpoint_size",
        ]  # fmt: skip
        shared = [
            "completed",
            "train_yolo",
            "run",
            '{"model": "yolo11n", "dataset": "digits"}',
            4,
            "2026-01-02",
        ]
        named = [of_byte.sha256, of_byte.size]
        with self.connection.transaction(), self.connection.cursor() as cursor:
            copy = cursor.copy(f"COPY training_jobs ({', '.join(columns)}) FROM STDIN")
            with copy as rows:
                for job_id in ids:
                    best, last = (self.uri(job_id, name) for name in ("best.pt", "last.pt"))
                    rows.write_row([job_id, *shared, best, *named, last, *named])


def retained(world: World, policy: RetentionPolicy = NOTHING, **options: Any) -> RetentionReport:
    """Apply the policy; by default, everything that may be removed is removed."""
    given: dict[str, Any] = {"live_runs": world.live_runs, "requested_at": datetime.now(UTC)} | options
    return retain(world.connection, Bucket(world.client, world.bucket), policy, **given)


def ended(world: World, job_id: str, days: int = 100, fitness: float = 0.0, **columns: Any) -> None:
    """Add a job that ended `days` ago with the given fitness."""
    when = datetime.now(UTC) - timedelta(days=days)
    metrics = {"metrics/mAP50-95(B)": fitness, "val/box_loss": 1 - fitness}
    values: dict[str, Any] = {"metrics": metrics, "completed_at": when}
    world.job(job_id, **(values | columns))


def expired(world: World) -> set[str]:
    """Return the jobs whose rows mark their state as expired; require that S3 and all columns agree."""
    with world.connection.transaction():
        rows = world.connection.execute("SELECT job_id FROM training_jobs").fetchall()
    gone = set()
    for (job_id,) in rows:
        row = world.get(job_id)
        if row["last_checkpoint_expired_at"] is not None:
            gone.add(job_id)
            assert row["last_checkpoint_path"] is row["last_checkpoint_sha256"] is None
            assert row["last_checkpoint_size"] is None
            assert row["best_checkpoint_path"] == world.uri(job_id, "best.pt")
        assert world.names(job_id) == ({"best.pt"} if job_id in gone else WHOLE), job_id
    return gone
