"""The environment of a benchmark: an empty folder, real servers, and the command line."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.picture import draw
from benchmarks.sides import isolate
from benchmarks.table import Table, machine, progress, show
from include.s3.bucket import Bucket
from include.stack.local import Stack
from include.stack.steps import Steps

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from psycopg import Connection

    from include.attempt.job_record import JobRecord
    from include.checkpoints.store import CheckpointStore

BUCKET = "benchmarks"

Benchmark = Callable[[Path, bool], Table]
"""Measures in an empty folder; True as second argument selects tiny settings, for a quick check only."""


@dataclass(frozen=True)
class Services:
    """The addresses and credentials of S3 and Postgres, as plain values that other processes can receive."""

    endpoint_url: str
    access_key: str
    secret_key: str
    region: str
    database_url: str
    bucket: str = BUCKET

    def client(self) -> S3Client:
        """Return an S3 client with the settings of the tasks."""
        import boto3

        from include.s3.client import build_client_config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=build_client_config(),
        )

    def store(self, job_id: str) -> CheckpointStore:
        """Return a new writer of the job's checkpoints."""
        from include.checkpoints.store import CheckpointStore

        store = CheckpointStore(Bucket(self.client(), self.bucket))
        store.head(job_id, "best")  # a store replaces only objects that it has read
        store.head(job_id, "last")
        return store

    def row(self, job_id: str) -> JobRecord:
        """Return the row of a job that `begin` has created."""
        from include.attempt.job_record import JobRecord

        return JobRecord(job_id, job_id, 1, self._connection)

    def begin(self, job_id: str) -> None:
        """Create the job's row, as the tasks before `train` do."""
        from include.jobs.claim import JobClaim
        from include.jobs.repository import JobRepository

        claim = JobClaim(
            job_id,
            "benchmark",
            run_id=job_id,
            spec={},
            epochs=None,
            parent_job_id=None,
            resumed_epoch=None,
            triggered_by=None,
            fresh=False,
            expected_run_id=None,
        )
        with self._connection() as connection:
            JobRepository(connection).claim(claim)

    def airflow_environment(self, home: Path) -> dict[str, str]:
        """Return the environment variables of Airflow that the task `train` needs."""
        s3 = {
            "conn_type": "aws",
            "login": self.access_key,
            "password": self.secret_key,
            "extra": {"endpoint_url": self.endpoint_url, "region_name": self.region},
        }
        return {
            "AIRFLOW_HOME": str(home / "airflow"),
            "AIRFLOW_CONN_TRAINING_DB": self.database_url,
            "AIRFLOW_CONN_TRAINING_S3": json.dumps(s3),
        }

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        import psycopg

        with closing(psycopg.connect(self.database_url)) as connection:
            yield connection


@cache
def shared_client(services: Services) -> S3Client:
    """Return the client that this process uses for all its requests to these services."""
    return services.client()


@contextmanager
def local_services(folder: Path) -> Iterator[Services]:
    """Start the stack's S3 server and its PostgreSQL with our tables; both keep their data in `folder`."""
    import psycopg

    from include.schema.migrations import apply
    from include.schema.session import make_engine

    folder.chmod(0o711)  # PostgreSQL runs as another user if this process is root
    with stopping(Stack.at(folder / "stack")) as stack:
        stack.s3.start()
        stack.s3.ensure_bucket(BUCKET)
        stack.postgres.start()
        url = stack.postgres.build_url("postgres")
        apply(make_engine(lambda: psycopg.connect(url)))
        s3 = stack.s3
        yield Services(s3.endpoint_url, s3.access_key, s3.secret_key, s3.region, url)


@contextmanager
def stopping(stack: Stack) -> Iterator[Stack]:
    """Stop the stack's services at the end of the block."""
    try:
        yield stack
    finally:
        stack.down(Steps.quiet())


@contextmanager
def workspace() -> Iterator[Path]:
    """Create an empty folder, and isolate Ultralytics from the user's settings and the network."""
    with tempfile.TemporaryDirectory(prefix="yolo-training-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        isolate(folder)
        yield folder


def main(*benchmarks: Benchmark) -> None:
    """Run the benchmarks in turn, or several in parallel with `--quick`, and print their tables.

    If a benchmark fails, the others still run, and the exit status is 1.
    """
    given = read_arguments({part_name(benchmark): benchmark for benchmark in benchmarks})
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
    failed = _run_at_once(given) if given.quick and len(given.parts) > 1 else _run_in_turn(given)
    if failed:
        raise SystemExit(f"Failed: {', '.join(failed)}")


def _run_at_once(given: Arguments) -> list[str]:
    """Run the parts in parallel, which distorts their figures; return the names of the failed parts.

    There are more processes than processors, because each part sometimes waits for services or for the disk.
    """
    options = ["--quick", *(["--out", str(given.out)] if given.out else [])]

    def run(name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", f"benchmarks.{name}", *options]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)

    failed = []
    with ThreadPoolExecutor((os.cpu_count() or 1) + 1) as pool:
        for name, done in zip(given.parts, pool.map(run, given.parts), strict=True):
            sys.stdout.write(done.stdout)
            if done.returncode:
                failed.append(name)
    return failed


def _run_in_turn(given: Arguments) -> list[str]:
    """Run one part after the other; return the names of the failed parts."""
    failed = []
    with workspace() as folder:
        for name, benchmark in given.parts.items():
            try:
                table = _run(benchmark, folder / name, given.quick)
            except Exception:
                traceback.print_exc()
                failed.append(name)
                continue
            show(table)
            if given.out:
                (given.out / f"{name}.md").write_text(str(table))
                draw(table, given.out / f"{name}.svg")
    return failed


def _run(benchmark: Benchmark, folder: Path, quick: bool) -> Table:
    """Run a benchmark in the folder, remove the folder, and add a description of the machine to the table."""
    folder.mkdir()
    description, started = machine(), time.monotonic()
    try:
        table = benchmark(folder, quick)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    progress(f"{folder.name} took {time.monotonic() - started:.0f} s")
    table.about = f"{table.about}\n\n{description}".rstrip()
    return table


@dataclass(frozen=True)
class Arguments:
    """The parsed command line."""

    parts: dict[str, Benchmark]
    quick: bool
    out: Path | None
    """Folder for the tables and their pictures."""


def part_name(benchmark: Benchmark) -> str:
    """Return the name of the module that defines the benchmark, even if it runs as `__main__`."""
    return Path(inspect.getfile(benchmark)).stem


def read_arguments(known: Mapping[str, Benchmark], arguments: Sequence[str] | None = None) -> Arguments:
    """Read the command line; exit with an error message if it names an unknown part."""
    parser = argparse.ArgumentParser(description="Measure, and print the result as Markdown.")
    parser.add_argument("part", nargs="*", help=f"parts to measure (all): {', '.join(known)}")
    parser.add_argument(
        "--quick", action="store_true", help="only check that it runs, with tiny settings and all processors"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="also write each table, and a picture of its ratios, into files",
    )
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.part if name not in known]:
        parser.error(f"there is no part {', '.join(unknown)}; the parts are {', '.join(known)}")
    names = [name for name in known if name in given.part or not given.part]
    return Arguments({name: known[name] for name in names}, given.quick, given.out)
