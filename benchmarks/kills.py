"""Measure the cost of a kill: how much has to be trained again, and how long resuming takes.

`python -m benchmarks.kills [--quick]` prints the table.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import statistics
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess, SpawnProcess
from typing import TYPE_CHECKING, Any

from benchmarks.figures import MedianInterval
from benchmarks.material import make_digits
from benchmarks.place import local_services, main
from benchmarks.sides import failure, redirect
from benchmarks.table import Table, progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from multiprocessing.connection import Connection
    from pathlib import Path

    from benchmarks.place import Services

EPOCHS = 100
JOB = "killed"

PLAIN = "plain Ultralytics, cold start"
COLD = "ours, cold start"
HERE = "ours, again on the same machine"
ELSEWHERE = "ours, again on another machine"


def measure(folder: Path, quick: bool) -> Table:
    """Kill one training run repeatedly, with cold starts in between."""
    kills = 1 if quick else 20
    data, images = make_digits(folder / "digits")
    starts: dict[str, list[float]] = {name: [] for name in (PLAIN, COLD, HERE, ELSEWHERE)}
    lost: dict[str, list[float]] = {name: [] for name in ("on this machine", "in S3")}
    dice = random.Random(0)  # noqa: S311 - no secret depends on it
    root = folder / "machine"
    with local_services(folder) as services:
        services.begin(JOB)
        prepare_forks(services.airflow_environment(root))
        for kill in range(kills):
            progress(f"kill {kill + 1} of {kills} …")
            elsewhere = kill % 2 == 0
            if elsewhere:
                shutil.rmtree(root / JOB, ignore_errors=True)
            cold = f"cold-{kill}"
            seconds = {
                PLAIN: _seconds_to_start(MeasuredAttempt(_plain, folder / cold, data, fresh=True)),
                COLD: _seconds_to_start(MeasuredAttempt(run_ours, root, services, cold, 1)),
            }
            attempt = MeasuredAttempt(run_ours, root, services, JOB, kill + 1)
            seconds[ELSEWHERE if elsewhere else HERE] = attempt.seconds_to_first_batch()
            if kill or quick:  # skip the first: cold file cache, and JOB starts from scratch
                for name, measured in seconds.items():
                    starts[name].append(measured)
            attempt.train_on(epochs=dice.uniform(1, 2.5))
            reached = attempt.kill()
            lost["on this machine"].append(reached - _local_state(root / JOB))
            lost["in S3"].append(reached - _state_in_s3(services, attempt.batches))
    return _table(starts, lost, images, kills)


def prepare_forks(airflow: Mapping[str, str]) -> None:
    """Start the process from which attempts are forked, and wait until it has imported Airflow."""
    os.environ |= airflow
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(["airflow.sdk"])
    first = forkserver.Process(target=os.getpid)
    first.start()
    first.join()


def _seconds_to_start(attempt: MeasuredAttempt) -> float:
    seconds = attempt.seconds_to_first_batch()
    attempt.kill()
    return seconds


def _table(starts: dict[str, list[float]], lost: dict[str, list[float]], images: int, kills: int) -> Table:
    table = Table(
        "What a kill costs",
        f"One training run of YOLO11n on {images} scenes of 64 px, killed with SIGKILL {kills} times at "
        "random moments. It does what the task `train` does, but without Airflow's scheduling. Like any "
        "worker's task, it runs in a fork of a process that has imported Airflow. A start is timed from the "
        "start of the process to the first batch (imports, data, state, building the model), with the 95 % "
        "CI of the median. On another machine, only the state in S3 is available. Lost epochs have to be "
        "trained again; an upload that the kill interrupted counts as lost.",
        ("", "times", "median", "most"),
    )
    for name, seconds in starts.items():
        if seconds:
            table.add(name, str(len(seconds)), f"{MedianInterval.of(seconds):.1f} s", f"{max(seconds):.1f} s")
    _compare_starts(table, {name: statistics.median(seconds) for name, seconds in starts.items() if seconds})
    for where, epochs in lost.items():
        table.add(
            f"epochs lost, with the state {where}",
            str(len(epochs)),
            f"{statistics.median(epochs):.2f}",
            f"{max(epochs):.2f}",
        )
    return table


def _compare_starts(table: Table, medians: dict[str, float]) -> None:
    """Compare our start times with that of plain Ultralytics."""
    found = {name: seconds / medians[PLAIN] for name, seconds in medians.items() if name != PLAIN}
    cold = table.compare("at most 0.8 times plain Ultralytics' start", {COLD: found.pop(COLD)}, 0.8)
    again = table.compare("at most 1.0 times plain Ultralytics' cold start", found, 1.0)
    table.result = f"for a cold start, {cold} For a resumed one, {again}"


@dataclass(frozen=True)
class Position:
    """The progress of an attempt at one moment."""

    epochs: float
    """Number of trained epochs, with part of an epoch as a fraction."""
    batches: int
    """Number of batches in an epoch."""
    at: float
    """The moment, as a value of `time.monotonic`."""


class MeasuredAttempt:
    """One attempt of a training run, in its own process.

    Without `fresh`, it is forked from a process that has imported Airflow, as workers fork their tasks.
    """

    def __init__(
        self,
        train: Callable[..., None],
        folder: Path,
        *arguments: Any,
        fresh: bool = False,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self._connection, theirs = multiprocessing.Pipe(duplex=False)
        start: type[SpawnProcess | ForkServerProcess] = SpawnProcess if fresh else ForkServerProcess
        self._process = start(target=_run_attempt, args=(train, folder, theirs, *arguments))
        self._started = time.monotonic()
        self._process.start()
        theirs.close()
        self._reached: Position | None = None
        self._log = folder / "log"

    def seconds_to_first_batch(self) -> float:
        """Wait for the first batch; return the seconds since the start of the process."""
        return self._next().at - self._started

    def train_on(self, epochs: float) -> None:
        """Wait until `epochs` more epochs are trained; accurate to one batch."""
        until = self._next().epochs + epochs
        while (reached := self._next()).epochs + 1 / reached.batches < until:
            pass

    @property
    def batches(self) -> int:
        """The number of batches in an epoch."""
        return self._reached.batches if self._reached else 1

    def kill(self) -> float:
        """Kill the attempt with SIGKILL; return the number of trained epochs."""
        self._process.kill()
        self._process.join()
        with suppress(EOFError, OSError):
            while True:
                self._reached = self._connection.recv()
        self._connection.close()
        return self._reached.epochs if self._reached else 0.0

    def _next(self) -> Position:
        try:
            self._reached = self._connection.recv()
        except EOFError:
            raise failure("An attempt ended before it was killed", self._log) from None
        return self._reached


def _run_attempt(train: Callable[..., None], folder: Path, connection: Connection, *arguments: Any) -> None:
    redirect(folder / "log")
    from ultralytics.utils.callbacks.base import default_callbacks

    done = 0

    def epoch_begins(_: Any) -> None:
        nonlocal done
        done = 0

    def batch_ends(trainer: Any) -> None:
        nonlocal done
        done = getattr(trainer, "_batch", done) + 1  # our trainer may resume within an epoch
        send_position(trainer)

    def send_position(trainer: Any) -> None:
        batches = len(trainer.train_loader)
        connection.send(Position(trainer.epoch + done / batches, batches, time.monotonic()))

    default_callbacks["on_train_epoch_start"].append(epoch_begins)
    default_callbacks["on_train_batch_start"].append(send_position)
    default_callbacks["on_train_batch_end"].append(batch_ends)
    train(folder, *arguments)


def _plain(folder: Path, data: Path) -> None:
    from ultralytics import YOLO

    YOLO("yolo11n.yaml").train(data=str(data), epochs=EPOCHS, imgsz=64, project=str(folder), name="run")


def run_ours(folder: Path, services: Services, job_id: str, attempt: int) -> None:
    os.environ |= services.airflow_environment(folder)
    from include.attempt.attempt import TrainingAttempt
    from include.checkpoints.store import CheckpointStore
    from include.claim.resolved_job import ResolvedJob
    from include.datasets.digits import build_reference
    from include.deployment.connections import open_bucket
    from include.deployment.settings import Settings
    from include.jobs.spec import TrainingSpec

    if job_id != JOB:
        services.begin(job_id)
    spec = TrainingSpec(task="detect", model="yolo11n", dataset="digits", epochs=EPOCHS, imgsz=64)
    job = ResolvedJob(
        job_id=job_id, dag_id="benchmark", run_id=job_id, origin_run_id=job_id, spec=spec.with_defaults()
    )
    settings = Settings(services.bucket, folder, is_cpu_worker=True)
    TrainingAttempt(
        job,
        build_reference(),
        attempt,
        settings,
        lambda: CheckpointStore(open_bucket(settings), run_id=job_id),
    ).run()


def _local_state(job_folder: Path) -> float:
    """Return how many epochs the state on this machine has trained; part of an epoch counts as a fraction."""
    from include.checkpoints.keys import BATCH, EXACT
    from include.training.loading import load_checkpoint

    last = job_folder / "runs" / "train" / "weights" / "last.pt"
    if not last.exists():
        return 0.0
    state = load_checkpoint(last)
    return float(state["epoch"] + 1 + state[EXACT][BATCH] / state[EXACT]["batches"])


def _state_in_s3(services: Services, batches: int) -> float:
    """Return how many epochs the state in S3 has trained, for epochs of `batches` batches."""
    stored = services.store(JOB).head(JOB, "last")
    if stored is None or stored.checkpoint is None:
        return 0.0
    return stored.checkpoint.epoch + 1 + stored.checkpoint.batch / batches


if __name__ == "__main__":
    main(measure)
