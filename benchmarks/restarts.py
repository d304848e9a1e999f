"""Measure how long a kill interrupts training under a scheduler: from SIGKILL to the first new batch.

`python -m benchmarks.restarts [--quick]` prints the table.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psycopg

from benchmarks.figures import MedianInterval
from benchmarks.pipeline import PATIENCE_SECONDS, prepare, wait_for_end
from benchmarks.place import main, stopping
from benchmarks.sides import wait_until
from benchmarks.table import Table, progress
from include.jobs.job import TRAINING_DAG
from include.jobs.repository import JobRepository
from include.stack.demo import TRAINING
from include.stack.local import Stack
from include.training.heartbeat import Phase, read_beats

_JOB = "killed"


@dataclass(frozen=True)
class Restart:
    """Times after a kill, in seconds."""

    until_started: float
    """Until the scheduler had started the next attempt."""
    until_batch: float
    """Until that attempt had trained a batch."""


def measure(folder: Path, quick: bool) -> Table:
    """Kill the training process repeatedly, and wait each time for the next one to train."""
    kills = 1 if quick else 15
    dice = random.Random(0)  # noqa: S311 - no secret depends on it
    with ExitStack() as resources:
        stack = resources.enter_context(stopping(Stack.at(folder / "stack")))
        prepare(stack)
        database = resources.enter_context(closing(psycopg.connect(stack.training_db_url, autocommit=True)))
        jobs = JobRepository(database)
        conf = {**TRAINING, "epochs": 1000, "publish_every": 1, "job_id": _JOB}
        run = stack.api.trigger(TRAINING_DAG, conf)
        restarts: list[Restart] = []
        for number in range(kills + 1):
            restarts.append(_kill_once(stack, jobs, run, dice))
            progress(f"{number} of {kills}: {restarts[-1]}")
        jobs.request_stop(_JOB)
        wait_for_end(stack, TRAINING_DAG, run)
    return _table(restarts[1:])  # the first restart had a cold file cache


def _table(restarts: list[Restart]) -> Table:
    table = Table(
        "From SIGKILL to the next batch",
        "A training run on the bundled digits on a warm local stack. Its process is killed "
        f"{len(restarts)} times with SIGKILL, each time at a random moment after a new state was stored. "
        "Seconds from the kill, medians with their 95 % CI.",
        ("until", "median", "most"),
    )
    for name, seconds in {
        "the scheduler has started the next attempt": [each.until_started for each in restarts],
        "that attempt has trained its first batch": [each.until_batch for each in restarts],
    }.items():
        table.add(name, f"{MedianInterval.of(seconds):.1f} s", f"{max(seconds):.1f} s")
    median = statistics.median(each.until_batch for each in restarts)
    table.result = str(table.compare("at most 8 s", {"until its first batch": median}, 8.0))
    return table


def _kill_once(stack: Stack, jobs: JobRepository, run: str, dice: random.Random) -> Restart:
    """Kill the attempt in the middle of an epoch, and wait until the next one trains."""
    folder = Path(stack.env["TRAINING_ROOT"]) / _JOB / "watchdog"
    before = _durable(jobs)
    wait_until(lambda: _durable(jobs) != before, "a durable state", PATIENCE_SECONDS)
    time.sleep(dice.uniform(0, 4))
    wait_until(lambda: _training(folder) is not None, "a batch", PATIENCE_SECONDS)
    pid = _training(folder)
    if pid is None:
        raise RuntimeError("The training run ended before it was killed")
    os.kill(pid, signal.SIGKILL)
    killed, at = time.monotonic(), time.time()
    wait_until(lambda: _training(folder) not in {None, pid}, "the next attempt's batch", PATIENCE_SECONDS)
    seconds = time.monotonic() - killed
    tasks = {task["task_id"]: task for task in stack.api.list_task_instances(TRAINING_DAG, run)}
    return Restart(datetime.fromisoformat(tasks["train"]["start_date"]).timestamp() - at, seconds)


def _durable(jobs: JobRepository) -> tuple[int, int] | None:
    job = jobs.get(_JOB)
    return job.durable if job else None


def _training(folder: Path) -> int | None:
    """Return the id of the process whose heartbeat says that it is training, or None."""
    return next((beat.pid for beat in read_beats(folder) if beat.phase is Phase.TRAINING), None)


if __name__ == "__main__":
    main(measure)
