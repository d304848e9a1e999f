"""Runs a job with one fault at one moment, and reports the outcome."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

import psutil

from include.checkpoints.checkpoint import CHECKPOINT_KINDS
from include.checkpoints.store import CheckpointStore
from include.jobs.job import TrainingJob
from include.jobs.repository import JobRepository
from include.s3.bucket import Bucket
from tests.support.faults.fault import NONE, Fault, Moment, Outcome
from tests.support.faults.scene import Scene
from tests.support.faults.task_process import AGAIN, DONE, FAILED, LOGGED, TASKS, Run, run_tasks
from tests.support.killing import Attempt, Place
from tests.support.tiny_trainings import weights_of

LONGEST_SECONDS = 300.0
"""Time limit for a job: ten times the half minute that a job takes on an idle machine."""

ATTEMPTS = 12
RETRY_SECONDS = 0.2
"""Pause between two attempts, instead of the seconds or minutes that Airflow waits."""


def _group_tasks(moment: Moment | None) -> Iterator[tuple[str, ...]]:
    """Group the tasks: training and the moment's task get separate processes."""
    alone = {"train", moment.task if moment else "train"}
    for is_alone, tasks in groupby(TASKS, alone.__contains__):
        group = tuple(tasks)
        yield from [(task,) for task in group] if is_alone else [group]


class Hung(Exception):
    """The job did not end within its time or attempts, or an attempt ended before the fault's moment."""


class Job:
    """One job, from the first task of its Dag run to the last one."""

    def __init__(self, scene: Scene, job_id: str, fault: Fault = NONE) -> None:
        self.scene, self.job_id, self.fault = scene, job_id, fault
        self.folder = scene.place.folder / job_id
        self.folder.mkdir()
        self.root = self.folder / "machine"
        self.data = scene.copy_data(job_id) if fault.own_data else scene.data
        self.dag_run = Run("run1", scene.conf(job_id, self.data), self.folder)
        self.outcome = Outcome()
        self._deadline = time.monotonic() + LONGEST_SECONDS
        self._attempts: list[tuple[Sequence[str], Attempt]] = []
        self._healed: float | None = None
        self._before: Any = None
        self._lines_before = 0

    @property
    def attempt(self) -> Attempt:
        """Return the current attempt."""
        return self._attempts[-1][1]

    @property
    def tasks(self) -> Sequence[str]:
        """Return the tasks of the current attempt."""
        return self._attempts[-1][0]

    @property
    def process(self) -> psutil.Process:
        """Return the process of the current attempt."""
        return psutil.Process(self.attempt.pid)

    @property
    def row(self) -> TrainingJob | None:
        """Return the job's row, bypassing the faulty connection."""
        with self.scene.connect() as connection:
            return JobRepository(connection).get(self.job_id)

    def run(self, moment: Moment | None = None) -> Outcome:
        """Run the job to its end, with its fault at the given moment; return the outcome."""
        try:
            for tasks in _group_tasks(moment):
                if not self._run(tasks, moment if moment and moment.task in tasks else None):
                    break
            self._await_all()
        except Hung as error:
            self.outcome.problems.append(str(error))
        finally:
            self.scene.hold.release()
            for _, attempt in self._attempts:
                attempt.__exit__()
        self._collect_outcome(moment)
        return self.outcome

    def start(self, tasks: Sequence[str], dies_at: Place | None = None) -> Attempt:
        """Start the next attempt at the tasks."""
        number = 1 + sum(earlier == tasks for earlier, _ in self._attempts)
        attempt = self.make(tasks, number, self.dag_run, dies_at)
        self._attempts.append((tasks, attempt))
        return attempt

    def resume(self) -> None:
        """Continue the current attempt if it stopped itself for the fault."""
        with suppress(ProcessLookupError):
            os.kill(self.attempt.pid, signal.SIGCONT)

    def make(self, tasks: Sequence[str], number: int, run: Run, dies_at: Place | None = None) -> Attempt:
        """Start an attempt at tasks of this run or another one, on this job's machine."""
        return Attempt(
            run_tasks, self.scene.environment(self.root, self.data), run, tasks, number, self.fault.processes,
            folder=run.folder / f"{tasks[0]}-{number}",
            machine=self.fault.machine,
            dies_at=dies_at,
        )  # fmt: skip

    def _run(self, tasks: Sequence[str], moment: Moment | None) -> bool:
        """Attempt the tasks until they are done; return False if one failed permanently."""
        for _ in range(ATTEMPTS):
            if moment and self._healed is None:
                self._run_into_fault(tasks, moment)
            else:
                self.start(tasks)
            status = self._wait()
            if status in (DONE, FAILED):
                return status == DONE
            if status not in (AGAIN, -signal.SIGKILL, 143):
                self.outcome.problems.append(f"{tasks} ended with status {status}")
            time.sleep(RETRY_SECONDS)
        raise Hung(f"{tasks} were not done after {ATTEMPTS} attempts")

    def _run_into_fault(self, tasks: Sequence[str], moment: Moment) -> None:
        if moment.machine_lost:
            with self.start(tasks) as lost:
                self._until(
                    lambda: (row := self.row) is not None and row.durable is not None, "nothing is durable"
                )
                lost.kill()
            shutil.rmtree(self.root, ignore_errors=True)  # the watchdog may be writing its trace
        place = moment.at if isinstance(moment.at, Place) else None
        if not isinstance(moment.at, Place):
            self.scene.hold.next(moment.at)
        attempt = self.start(tasks, place)
        self._until(lambda: self._is_at_moment(attempt), f"{moment.name} was not reached")
        self._lines_before = len(self._log_lines())
        with self.fault.inject(self):
            self.resume()
            self.scene.hold.release()
            time.sleep(self.fault.seconds)
        self._healed, self._before = time.monotonic(), self._progress()

    def _await_all(self) -> None:
        """Wait for all attempts to end; a superseded attempt must notice that and end by itself."""
        for tasks, attempt in self._attempts:
            self._until(lambda: attempt.ends_within(0), f"an attempt at {tasks} does not end")  # noqa: B023

    def _is_at_moment(self, attempt: Attempt) -> bool:
        if attempt.ends_within(0):
            raise Hung(f"the attempt ended before the moment: {attempt.log.read_text()[-2000:]}")
        return self.scene.hold.is_held() or self.process.status() == psutil.STATUS_STOPPED

    def _wait(self) -> int:
        """Wait for the attempt; return its status, and record when the job made progress after the fault."""

        def ended() -> bool:
            done = self.attempt.ends_within(0)
            if self._healed and self.outcome.recovered is None:
                on = self.attempt.status() == DONE if done else self._progress() != self._before
                self.outcome.recovered = time.monotonic() - self._healed if on else None
            return done

        self._until(ended, "hung")
        return self.attempt.status()

    def _progress(self) -> Any:
        row = self.row
        return row and (row.durable_epoch, row.durable_batch, row.epoch, row.status)

    def _until(self, condition: Callable[[], bool], problem: str) -> None:
        while not condition():
            if time.monotonic() > self._deadline:
                raise Hung(f"{problem}, after {LONGEST_SECONDS:.0f} s in {self._attempts[-1][0]}")
            time.sleep(0.02)

    def _collect_outcome(self, moment: Moment | None) -> None:
        row, outcome = self.row, self.outcome
        outcome.status = row.status if row else None
        outcome.attempts = sum(moment is not None and moment.task in tasks for tasks, _ in self._attempts)
        outcome.lost = (row.lost_seconds or 0.0) if row else 0.0
        outcome.sentence = self._sentence(row)
        if outcome.status not in (self.fault.ends):
            outcome.problems.append(f"the row is {outcome.status}: {outcome.sentence}")
        if row is not None:
            self._check_objects(row)
        if outcome.status == "completed" and not self.scene.backend.received[self.job_id]:
            outcome.problems.append("the backend was not notified")
        outcome.problems += [f"left: {command}" for command in self._left()]

    def _check_objects(self, row: TrainingJob) -> None:
        """Download the objects that the row names, and compare them."""
        store = CheckpointStore(Bucket(self.scene.client, self.scene.place.bucket))
        for kind in CHECKPOINT_KINDS:
            recorded = row.get_checkpoint(kind)
            if recorded is None:
                if row.has_ended_well:
                    self.outcome.problems.append(f"the row does not name a {kind}.pt")
                continue
            try:
                found = store.download(self.job_id, kind, self.folder / f"{kind}.pt")
            except Exception as error:
                self.outcome.problems.append(f"the row names {kind}.pt, but: {error}")
                continue
            if found.sha256 != recorded.sha256:
                self.outcome.problems.append(f"{kind}.pt is not the one that the row names")
            if kind == "last":
                self._compare(Path(found.path), row.inexact_reason)

    def _compare(self, last: Path, inexact_reason: str | None) -> None:
        weights, processes = weights_of(last), self.fault.processes
        expected = self.scene.weights.setdefault(processes, weights)
        self.outcome.weights = "equal" if weights == expected else "different"
        if self.outcome.status == "completed" and weights != expected and not inexact_reason:
            self.outcome.problems.append("the weights differ from those of the uninterrupted training run")

    def _log_lines(self) -> list[str]:
        logs = [attempt.log for _, attempt in self._attempts if attempt.log.exists()]
        lines = [line for log in logs for line in log.read_text().splitlines()]
        return [line.removeprefix(LOGGED) for line in lines if line.startswith(LOGGED)]

    def _sentence(self, row: TrainingJob | None) -> str:
        """Return the first message that a person reads about the fault, from the row or else from the log."""
        if row is not None and (reason := row.error or row.inexact_reason):
            return self._plain(reason)
        lines = [
            line for line in self._log_lines()[self._lines_before :] if "No GPU on this machine" not in line
        ]
        warnings = [line for line in lines if not line.startswith("INFO ")]
        resumed = [line for line in lines if line.startswith("INFO Resuming after")]
        return self._plain((warnings + resumed)[0].partition(" ")[2]) if warnings + resumed else ""

    def _plain(self, text: str) -> str:
        """Return the text without the parts that differ from run to run."""
        for folder in (self.folder, self.scene.place.folder):
            text = text.replace(str(folder), "…")
        for pattern, replacement in (
            (re.escape(self.scene.place.bucket), "bucket"),
            (re.escape(self.job_id), "job"),
            (r"127\.0\.0\.1:\d+|127\.0\.0\.1\", port \d+|port \d+", "server"),
            (r"\b[0-9a-f]{32,}\b", "…"),
            (r"pid(\(s\))? \d+", "pid …"),
            (r"\.\d+\.part", ".part"),
            (r"(?<=\S) in [0-9.]+ s\b", ""),
        ):
            text = re.sub(pattern, replacement, text)
        return text

    def _left(self) -> list[str]:
        """Return the commands of remaining processes of this job, found by their open log files."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if Path(f"/proc/{process.pid}/fd/2").readlink().is_relative_to(self.folder):
                    found.append(" ".join(process.cmdline())[:200])
        return found
