"""Simulate what share of a GPU's time goes into useful training when training is killed repeatedly.

`python -m benchmarks.goodput [--quick]` measures an upload and a restart, takes the other durations from the
tables in docs/benchmarks.md, and prints the table. The clock is simulated, so the simulation takes seconds.
"""

from __future__ import annotations

import math
import random
import shutil
import statistics
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchmarks.kills import JOB, MeasuredAttempt, prepare_forks, run_ours
from benchmarks.place import local_services, main
from benchmarks.table import Table, progress
from benchmarks.transfer_clients import Ours

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HOUR = 3600.0
KILLS = {"15 minutes": 900.0, "hour": HOUR}
"""Mean seconds between two kills. Kills come at random, at exponentially distributed intervals."""
TARGETS = {"15 minutes": 0.95, "hour": 0.99}


@dataclass(frozen=True)
class Parts:
    """The durations that make up a training run and its kills, in seconds, measured on YOLO11n."""

    publish: float = 60.0
    """`publish_seconds`: seconds from one state to the next. 60 is the project's default."""
    epoch: float = 10 * HOUR
    """Duration of an epoch. A state is also saved at the end of each epoch.

    The default exceeds `job`, so no epoch ends before the job does: the worst case.
    """
    pause: float = 0.091
    """How long saving a state pauses training: column `pause, ours`, row `yolo11n` of the table "How long
    saving a state pauses training"."""
    written: float = 0.180
    """From the end of the pause until the state can be used on this machine: column `written` of the same
    row."""
    upload: float = 0.56
    """From the end of `written` until the state is in S3: row `upload, 58 MB`, `ours` of the table "Uploading
    and downloading checkpoints"."""
    detection: float = 0.3
    """The time until Airflow notices the end of the process, plus the time from the end of `retry_delay` to
    the start of the next process. These are the gaps before and after `train` in "From the trigger to the
    recorded row"."""
    retry_delay: float = 1.0
    """Delay before Airflow retries `train` after a kill (dags/train_yolo.py)."""
    restart: float = 6.5
    """From the start of the process to its first batch: row `ours, again on another machine` of the table
    "What a kill costs"."""
    elsewhere: bool = False
    """Whether the machine is lost with the process, so that only a state in S3 can be resumed."""
    job: float = 8 * HOUR
    """Training time that the job needs, excluding the time that saving states and kills cost."""


HEARTBEAT_TIMEOUT = 30.0
"""Seconds after which a lost machine is noticed, on average: `task_instance_heartbeat_timeout` of the local
stack. The last heartbeat is up to 5 s older than the loss, and the scheduler checks every 5 s. On average,
the two cancel out."""


@dataclass(frozen=True)
class Run:
    """A simulated job: its goodput, the number of its kills, and their cost."""

    goodput: float
    """Seconds of training that the job needed, as a share of the seconds that it took."""
    kills: int
    repeated: float
    """Seconds of training that had to be repeated, summed over all kills."""
    down: float
    """Seconds without training, summed over all kills."""


def simulate(parts: Parts, mean: float, seed: int) -> Run:
    """Simulate a whole job that is killed every `mean` seconds on average, also during restarts."""
    dice = random.Random(seed)  # noqa: S311 - no secret depends on it
    clock = repeated = down = durable = 0.0
    kills = 0
    until_kill = dice.expovariate(1 / mean)
    while True:
        attempt = train(parts, durable, until_kill)
        clock += attempt.seconds
        if attempt.reached >= parts.job:
            return Run(parts.job / clock, kills, repeated, down)
        repeated += attempt.reached - attempt.durable
        durable = attempt.durable
        while True:
            kills += 1
            until_kill = dice.expovariate(1 / mean)
            spent = min(parts.detection + parts.retry_delay + parts.restart, until_kill)
            clock, down = clock + spent, down + spent
            until_kill -= spent
            if until_kill > 0:
                break


@dataclass(frozen=True)
class Attempt:
    """The end of an attempt."""

    reached: float
    """Progress of the job, in seconds of training."""
    durable: float
    """Progress in the newest state that can be resumed, in seconds of training."""
    seconds: float
    """Duration of the attempt."""


def train(parts: Parts, start: float, seconds: float) -> Attempt:
    """Simulate an attempt from the state at `start` to the end of the job, or to a kill after `seconds`."""
    position = durable = start
    spent = uploaded = 0.0
    waiting: list[tuple[float, float]] = []  # (time at which a state becomes usable, its progress)
    while position < parts.job:
        epoch_end = (math.floor(position / parts.epoch + 1e-9) + 1) * parts.epoch
        step = min(parts.publish, epoch_end - position, parts.job - position)
        if spent + step >= seconds:
            position, spent = position + seconds - spent, seconds
            break
        position, spent = position + step, spent + step
        usable = spent + parts.pause + parts.written
        if parts.elsewhere:  # one upload at a time
            usable = uploaded = max(usable, uploaded) + parts.upload
        waiting.append((usable, position))
        spent += parts.pause
    durable = max((at for usable, at in waiting if usable <= spent), default=durable)
    return Attempt(position, durable, spent)


def measure(folder: Path, quick: bool) -> Table:
    """Measure an upload and a restart, and simulate jobs with these durations."""
    seeds, times = (50, 1) if quick else (2000, 3)
    parts = _measure_parts(folder, times)
    table = Table(
        "Goodput with kills",
        f"Simulated from measured parts: a job of {parts.job / HOUR:.0f} hours of YOLO11n whose process is "
        "killed at random moments, at exponentially distributed intervals. Goodput is the share of the "
        f"job's time that its training needs: medians of {seeds} simulated jobs, with the range of 90 % of "
        "them. Unless stated otherwise, epochs are longer than the job, so that only `publish_seconds` "
        "decides when states are saved. Repeated training and time without training are per kill. Parts: a "
        f"state pauses the training for {parts.pause * 1000:.0f} ms and is on disk after "
        f"{parts.written * 1000:.0f} ms. Its upload takes {parts.upload:.2f} s and a restart "
        f"{parts.restart:.1f} s (medians of {times} measurements). A retry is scheduled after "
        f"{parts.detection} s and the delay of `train`, {parts.retry_delay:.0f} s; a lost machine is noticed "
        f"{HEARTBEAT_TIMEOUT:.0f} s later.",
        ("killed", "a kill every", "state every", "kills", "repeated", "down", "goodput"),
    )
    found = {}
    for name, changed in _scenarios(parts):
        for every, mean in KILLS.items():
            runs = [simulate(changed, mean, seed) for seed in range(seeds)]
            table.add(name, every, f"{changed.publish:.0f} s", *cells(runs))
            if changed.publish == parts.publish:
                found[f"{name}, every {every}"] = (
                    statistics.median(run.goodput for run in runs) / TARGETS[every]
                )
    targets = " and ".join(f"{target} with a kill every {every}" for every, target in TARGETS.items())
    table.result = (
        "in these figures, goodput is divided by its target; `publish_seconds` has its default. "
        f"{table.compare(f'a goodput of {targets}', found, 1.0, at_least=True)}"
    ).replace(". the", ". The")
    return table


def _scenarios(parts: Parts) -> list[tuple[str, Parts]]:
    """Return each scenario: its title, which says what is killed, and its durations."""
    lost = replace(parts, elsewhere=True, detection=parts.detection + HEARTBEAT_TIMEOUT)
    return [
        scenario
        for what, killed in (("the process", parts), ("the machine", lost))
        for scenario in (
            (what, killed),
            (f"{what}, epochs of 30 s", replace(killed, epoch=30.0)),
            (what, replace(killed, publish=15.0)),
        )
    ]


def cells(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return medians of the runs: kills, seconds per kill, and goodput with the range of 90 % of the runs."""
    killed = [run for run in runs if run.kills] or [Run(1.0, 1, 0.0, 0.0)]
    goodputs = sorted(run.goodput for run in runs)
    tail = len(runs) // 20
    return (
        f"{statistics.median(run.kills for run in runs):.0f}",
        f"{statistics.median(run.repeated / run.kills for run in killed):.1f} s",
        f"{statistics.median(run.down / run.kills for run in killed):.1f} s",
        f"{statistics.median(goodputs):.3f} ({goodputs[tail]:.3f} to {goodputs[-1 - tail]:.3f})",
    )


def _measure_parts(folder: Path, times: int) -> Parts:
    """Measure a restart on another machine and the upload of its state."""
    restarts, uploads = [], []
    root = folder / "machine"
    with local_services(folder) as services:
        services.begin(JOB)
        prepare_forks(services.airflow_environment(root))
        attempt = MeasuredAttempt(run_ours, root, services, JOB, 1)
        attempt.train_on(epochs=1.2)
        attempt.kill()
        for number in range(times):
            progress(f"restart {number + 1} of {times} …")
            state = root / JOB / "runs" / "train" / "weights" / "last.pt"
            started = time.monotonic()
            Ours(services).upload(state, f"upload-{number}")
            uploads.append(time.monotonic() - started)
            kept = state.rename(folder / "last.pt")
            shutil.rmtree(root / JOB)
            attempt = MeasuredAttempt(run_ours, root, services, JOB, number + 2)
            restarts.append(attempt.seconds_to_first_batch())
            attempt.kill()
            state.parent.mkdir(parents=True, exist_ok=True)
            kept.rename(state)
    return Parts(upload=statistics.median(uploads), restart=statistics.median(restarts))


if __name__ == "__main__":
    main(measure)
