"""Measure the duration and the memory of the audit and of retention for many objects.

`python -m benchmarks.retention [--quick]` prints the table. The memory must not depend on the number of
objects.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.costs import peak_memory, run_in_process
from benchmarks.place import local_services, main
from benchmarks.table import Table, progress
from include.s3.bucket import Bucket

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.place import Services

OBJECTS_OF_A_JOB = ("best.pt", "last.pt", "last.previous.pt")

_BODY, _SHA256 = b"x", "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"


def measure(folder: Path, quick: bool) -> Table:
    """Measure the audit and a dry run for increasing numbers of objects, and a real run for the largest."""
    steps = (300, 900) if quick else (9_999, 33_333, 99_999)
    table = Table(
        "Audit and retention of many objects",
        "Each completed job has three tiny objects in the stack's S3 server, and a row in the database. The "
        "audit lists the bucket and, for each job, requests the two objects that the job's row records. The "
        "dry run of `retain` ranks the jobs and lists what it would delete; the real run also marks the rows "
        "and deletes two objects of each job, with If-Match. Each program runs in its own process; memory is "
        "the peak of that process, including Python and all libraries.",
        ("", "objects", "time", "objects a second", "peak memory"),
    )
    planted = 0
    with local_services(folder) as services:
        for objects in steps:
            progress(f"planting {objects} objects …")
            jobs = objects // len(OBJECTS_OF_A_JOB)
            _plant(services, range(planted, jobs))
            planted = jobs
            programs: list[tuple[str, Callable[[Services], None]]] = [
                ("audit", _audit),
                ("retention, dry run", partial(_retain, dry_run=True)),
            ]
            if objects == steps[-1]:
                programs.append(("retention", partial(_retain, dry_run=False)))
            for name, program in programs:
                seconds, peak = run_in_process(_measure, program, services)
                progress(f"{name} of {objects} objects: {seconds:.1f} s, {peak / 1e6:.0f} MB")
                speed = f"{objects / seconds:.0f}"
                table.add(name, f"{objects}", f"{seconds:.1f} s", speed, f"{peak / 1e6:.0f} MB")
    return table


def _plant(services: Services, jobs: range) -> None:
    import psycopg

    from include.checkpoints.checkpoint import Checkpoint
    from include.checkpoints.stored import build_metadata

    client = services.client()
    checkpoint = Checkpoint("", _SHA256, len(_BODY), epoch=0)

    def put(job: int) -> None:
        for name in OBJECTS_OF_A_JOB:
            client.put_object(
                Bucket=services.bucket,
                Key=f"checkpoints/job-{job:06d}/{name}",
                Body=_BODY,
                Metadata=build_metadata(checkpoint, f"job-{job:06d}", "run", "8.4"),
            )

    with ThreadPoolExecutor(8) as threads:
        for _ in threads.map(put, jobs):
            pass
    with psycopg.connect(services.database_url) as connection:
        connection.execute(
            """
            INSERT INTO training_jobs (
                job_id, status, dag_id, run_id, spec, durable_epoch, metrics, completed_at,
                best_checkpoint_path, best_checkpoint_sha256, best_checkpoint_size,
                last_checkpoint_path, last_checkpoint_sha256, last_checkpoint_size
            )
            SELECT
                job_id, 'completed', 'train_yolo', job_id,
                jsonb_build_object('model', 'yolo11n', 'dataset', 'digits'), 0,
                jsonb_build_object('metrics/mAP50-95(B)', random()), now() - interval '100 days',
                %(prefix)s || job_id || '/best.pt', %(sha256)s, 1,
                %(prefix)s || job_id || '/last.pt', %(sha256)s, 1
            FROM (
                SELECT 'job-' || lpad(number::text, 6, '0') AS job_id
                FROM generate_series(%(first)s::integer, %(last)s::integer) AS number
            ) AS planted
            """,
            {
                "prefix": f"s3://{services.bucket}/checkpoints/",
                "sha256": _SHA256,
                "first": jobs.start,
                "last": jobs.stop - 1,
            },
        )


def _measure(program: Callable[[Services], None], services: Services) -> tuple[float, int]:
    """Run the program; return its duration in seconds and the peak memory of its process in bytes."""
    started = time.monotonic()
    program(services)
    return time.monotonic() - started, peak_memory()


def _audit(services: Services) -> None:
    from datetime import UTC, datetime, timedelta

    import psycopg

    from include.audit.audit import AuditScope, audit
    from include.audit.request import AuditRequest
    from include.models.signing import ModelSigning
    from include.s3.conditional_writes import probe_conditional_writes

    bucket = Bucket(services.client(), services.bucket)
    with psycopg.connect(services.database_url) as connection:
        later = datetime.now(UTC) + timedelta(days=1)
        scope = AuditScope(
            connection,
            bucket,
            Path("/nonexistent"),
            lambda runs: set(),
            later,
            probe_conditional_writes(bucket),
            ModelSigning(),
        )
        report = audit(scope, AuditRequest(), "benchmark")
    if report.found:
        raise RuntimeError(f"The audit reported problems in a bucket without any: {report.sentence}")


def _retain(services: Services, *, dry_run: bool) -> None:
    from datetime import UTC, datetime

    import psycopg

    from include.audit.request import RetentionPolicy
    from include.audit.retention import retain

    policy = RetentionPolicy(dry_run=dry_run)
    with psycopg.connect(services.database_url) as connection:
        bucket, now = Bucket(services.client(), services.bucket), datetime.now(UTC)
        report = retain(connection, bucket, policy, lambda runs: set(), now)
    if not report.objects:
        raise RuntimeError(f"No state has expired: {report.sentence}")


if __name__ == "__main__":
    main(measure)
