"""A job that meets one fault at one moment, and what became of it."""

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
from tests.faults.fault import NONE, Fault, Moment, Outcome
from tests.faults.scene import Scene
from tests.faults.task_process import AGAIN, DONE, FAILED, SAID, TASKS, Run, run_tasks
from tests.killing import Attempt, Place
from tests.tiny_trainings import weights_of

LONGEST_SECONDS = 300.0
"""For a whole job, which needs half a minute on an idle machine: what takes ten times as long hangs."""

ATTEMPTS = 12
RETRY_SECONDS = 0.2
"""Between two attempts, instead of the seconds or minutes that Airflow waits."""


def _together(moment: Moment | None) -> Iterator[tuple[str, ...]]:
    """Group the tasks: the training and the moment's task have processes of their own."""
    alone = {"train", moment.task if moment else "train"}
    for is_alone, tasks in groupby(TASKS, alone.__contains__):
        group = tuple(tasks)
        yield from [(each,) for each in group] if is_alone else [group]


class Hung(Exception):
    """The job did not end in time."""


class Job:
    """One job from its Dag run's first task to its last one."""

    def __init__(self, scene: Scene, job_id: str, fault: Fault = NONE) -> None:
        self.scene, self.job_id, self.fault = scene, job_id, fault
        self.folder = scene.place.folder / job_id
        self.folder.mkdir()
        self.root = self.folder / "machine"
        self.data = scene.data_of(job_id) if fault.own_data else scene.data
        self.dag_run = Run("run1", scene.conf(job_id, self.data), self.folder)
        self.outcome = Outcome()
        self._deadline = time.monotonic() + LONGEST_SECONDS
        self._attempts: list[tuple[Sequence[str], Attempt]] = []
        self._healed: float | None = None
        self._before: Any = None
        self._said_before = 0

    @property
    def attempt(self) -> Attempt:
        """The process that is at work."""
        return self._attempts[-1][1]

    @property
    def tasks(self) -> Sequence[str]:
        """The tasks that it is at work at."""
        return self._attempts[-1][0]

    @property
    def process(self) -> psutil.Process:
        """The same, for psutil."""
        return psutil.Process(self.attempt.pid)

    @property
    def row(self) -> TrainingJob | None:
        """What the database says, past every fault."""
        with self.scene.connect() as connection:
            return JobRepository(connection).get(self.job_id)

    def run(self, moment: Moment | None = None) -> Outcome:
        """Let the job meet its fault at the moment, and go on to its end."""
        try:
            for tasks in _together(moment):
                if not self._run(tasks, moment if moment and moment.task in tasks else None):
                    break
            self._await_all()
        except Hung as error:
            self.outcome.problems.append(str(error))
        finally:
            self.scene.hold.release()
            for _, attempt in self._attempts:
                attempt.__exit__()
        self._look_back(moment)
        return self.outcome

    def start(self, tasks: Sequence[str], dies_at: Place | None = None) -> Attempt:
        """Start the next attempt at the tasks."""
        number = 1 + sum(each == tasks for each, _ in self._attempts)
        attempt = self.make(tasks, number, self.dag_run, dies_at)
        self._attempts.append((tasks, attempt))
        return attempt

    def go_on(self) -> None:
        """Let the attempt go on, where it was stopped at the moment."""
        with suppress(ProcessLookupError):
            os.kill(self.attempt.pid, signal.SIGCONT)

    def make(self, tasks: Sequence[str], number: int, run: Run, dies_at: Place | None = None) -> Attempt:
        """Start an attempt, also at tasks of another run, on this job's machine."""
        return Attempt(
            run_tasks, self.scene.environment(self.root, self.data), run, tasks, number, self.fault.processes,
            folder=run.folder / f"{tasks[0]}-{number}",
            machine=self.fault.machine,
            dies_at=dies_at,
        )  # fmt: skip

    def _run(self, tasks: Sequence[str], moment: Moment | None) -> bool:
        """Attempt the tasks until they are done; returns False where one failed for good."""
        for _ in range(ATTEMPTS):
            if moment and self._healed is None:
                self._meet(tasks, moment)
            else:
                self.start(tasks)
            status = self._wait()
            if status in (DONE, FAILED):
                return status == DONE
            if status not in (AGAIN, -signal.SIGKILL, 143):
                self.outcome.problems.append(f"{tasks} ended with status {status}")
            time.sleep(RETRY_SECONDS)
        raise Hung(f"{tasks} were not done after {ATTEMPTS} attempts")

    def _meet(self, tasks: Sequence[str], moment: Moment) -> None:
        if moment.machine_lost:
            with self.start(tasks) as lost:
                self._until(
                    lambda: (row := self.row) is not None and row.durable is not None, "nothing is durable"
                )
                lost.kill()
            shutil.rmtree(self.root)
        place = moment.at if isinstance(moment.at, Place) else None
        if not isinstance(moment.at, Place):
            self.scene.hold.next(moment.at)
        attempt = self.start(tasks, place)
        self._until(lambda: self._is_there(attempt), f"{moment.name} was not reached")
        self._said_before = len(self._said())
        with self.fault.inject(self):
            self.go_on()
            self.scene.hold.release()
            time.sleep(self.fault.seconds)
        self._healed, self._before = time.monotonic(), self._progress()

    def _await_all(self) -> None:
        """An attempt that was overtaken has to notice it, and to end by itself."""
        for tasks, attempt in self._attempts:
            self._until(lambda: attempt.ends_within(0), f"an attempt at {tasks} does not end")  # noqa: B023

    def _is_there(self, attempt: Attempt) -> bool:
        if attempt.ends_within(0):
            raise Hung(f"the attempt ended before the moment: {attempt.log.read_text()[-2000:]}")
        return self.scene.hold.is_held() or self.process.status() == psutil.STATUS_STOPPED

    def _wait(self) -> int:
        """Return the attempt's status; notice when the job has got on after the fault."""

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

    def _look_back(self, moment: Moment | None) -> None:
        row, outcome = self.row, self.outcome
        outcome.status = row.status if row else None
        outcome.attempts = sum(moment is not None and moment.task in tasks for tasks, _ in self._attempts)
        outcome.lost = (row.lost_seconds or 0.0) if row else 0.0
        outcome.sentence = self._sentence(row)
        if outcome.status not in (self.fault.ends):
            outcome.problems.append(f"the row is {outcome.status}: {outcome.sentence}")
        if row is not None:
            self._look_at_objects(row)
        if outcome.status == "completed" and not self.scene.backend.told[self.job_id]:
            outcome.problems.append("the backend was not told")
        outcome.problems += [f"left: {each}" for each in self._left()]

    def _look_at_objects(self, row: TrainingJob) -> None:
        """Read what the row names, and compare it."""
        store = CheckpointStore(Bucket(self.scene.client, self.scene.place.bucket))
        for kind in CHECKPOINT_KINDS:
            recorded = row.checkpoint(kind)
            if recorded is None:
                if row.has_ended_well:
                    self.outcome.problems.append(f"the row names no {kind}.pt")
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
            self.outcome.problems.append("other weights than those of the uninterrupted training")

    def _said(self) -> list[str]:
        logs = [attempt.log for _, attempt in self._attempts if attempt.log.exists()]
        lines = [line for log in logs for line in log.read_text().splitlines()]
        return [line.removeprefix(SAID) for line in lines if line.startswith(SAID)]

    def _sentence(self, row: TrainingJob | None) -> str:
        """What a person reads first of the fault: in the row, else in the log."""
        if row is not None and (reason := row.error or row.inexact_reason):
            return self._plain(reason)
        said = [line for line in self._said()[self._said_before :] if "No GPU on this machine" not in line]
        warnings = [line for line in said if not line.startswith("INFO ")]
        resumed = [line for line in said if line.startswith("INFO Going on after")]
        return self._plain((warnings + resumed)[0].partition(" ")[2]) if warnings + resumed else ""

    def _plain(self, text: str) -> str:
        """Without what differs from run to run."""
        for folder in (self.folder, self.scene.place.folder):
            text = text.replace(str(folder), "…")
        for pattern, put in (
            (re.escape(self.scene.place.bucket), "bucket"),
            (re.escape(self.job_id), "job"),
            (r"127\.0\.0\.1:\d+|127\.0\.0\.1\", port \d+|port \d+", "server"),
            (r"\b[0-9a-f]{32,}\b", "…"),
            (r"pid(\(s\))? \d+", "pid …"),
            (r"\.\d+\.part", ".part"),
            (r"(?<=\S) in [0-9.]+ s\b", ""),
        ):
            text = re.sub(pattern, put, text)
        return text

    def _left(self) -> list[str]:
        """Processes of this job that are still there; each has its log open."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if Path(f"/proc/{process.pid}/fd/2").readlink().is_relative_to(self.folder):
                    found.append(" ".join(process.cmdline())[:200])
        return found
