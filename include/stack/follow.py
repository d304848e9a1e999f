"""Follows a Dag run in the terminal, and kills its training run once, to show that the run resumes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from include.jobs.repository import JobRepository
from include.stack.outages import retry_during_outage

if TYPE_CHECKING:
    from rich.console import RenderableType

    from include.jobs.job import RecordedEpoch
    from include.stack.airflow_api import AirflowApi
    from include.stack.local import Stack
    from include.stack.steps import Steps

ENDED = {"success", "failed"}
TASK_ENDED = {"success", "failed", "skipped", "upstream_failed"}
TASK_WAITS = {None, "none", "scheduled", "removed"}
POLL_SECONDS = 1.0
QUALITY = (
    "metrics/mAP50(B)",
    "metrics/mAP50(M)",
    "metrics/accuracy_top1",
    "metrics/mIoU",
    "metrics/delta1",
)


def find_quality(metrics: Mapping[str, float | None]) -> tuple[str, float] | None:
    """Return the most important metric with its short name: mAP50, or its counterpart in other tasks."""
    for name in QUALITY:
        value = metrics.get(name)
        if value is not None:
            return name.removeprefix("metrics/").removesuffix("(B)"), value
    return None


@dataclass
class Follower:
    """Follows one run until it ends."""

    stack: Stack
    """The running stack whose Airflow executes the run."""
    steps: Steps
    """Where the progress is printed."""
    dag_id: str
    """The Dag of the run."""
    run_id: str
    """The run that is followed."""
    job_id: str | None = None
    """The job, if the run is a training run."""
    crash_after: int | None = None
    """Number of recorded epochs after which the training process is killed; None to let it run."""
    _states: dict[str, str] = field(default_factory=dict)
    """The state of each task's current attempt, as last printed."""
    _attempts: dict[str, int] = field(default_factory=dict)
    """The newest attempt of each task that has been retried."""
    _epochs: list[RecordedEpoch] = field(default_factory=list)
    """The recorded epochs of the job, at the last poll."""
    _history: int = 0
    """How many of the epochs were trained by the job that this one continues."""
    _planned: int | None = None
    """Planned number of epochs; None if unknown."""

    def follow(self) -> str:
        """Show the run until it ends; return success or failed."""
        if not self.steps.console.is_terminal:
            return self._poll_until_ended(None)
        with Live(console=self.steps.console, refresh_per_second=4, transient=True) as live:
            return self._poll_until_ended(live)

    def _poll_until_ended(self, live: Live | None) -> str:
        poll = partial(self._poll, self.stack.api)
        while True:
            state = retry_during_outage(self.stack, self.steps, poll)
            if live is not None:
                live.update(self._build_panel())
            if state in ENDED:
                return state
            time.sleep(POLL_SECONDS)

    def _poll(self, api: AirflowApi) -> str:
        """Print what has changed, and return the state of the run."""
        state = api.get_run_state(self.dag_id, self.run_id)
        self._note_tasks(api.list_task_instances(self.dag_id, self.run_id))
        self._note_epochs()
        self._kill_training()
        return state

    def _note_tasks(self, tasks: list[dict[str, Any]]) -> None:
        for task in sorted(tasks, key=lambda task: str(task["start_date"] or "~")):
            name, state = task["task_id"], task["state"]
            # The pause before a retry may be shorter than the time between two polls.
            attempt = task["try_number"] + (state == "up_for_retry")
            if attempt > self._attempts.get(name, 1):
                self.steps.say(f"  {name}: ended early; Airflow starts attempt {attempt} automatically")
                self._attempts[name] = attempt
                self._states.pop(name, None)
            if state in TASK_WAITS or self._states.get(name) == state:
                continue
            self._states[name] = state
            if state in TASK_ENDED:
                seconds = f" ({task['duration']:.1f} s)" if task["duration"] else ""
                self.steps.say(f"  {name}: {state}{seconds}")
            elif not self.steps.console.is_terminal and state == "running":
                self.steps.say(f"  {name} ...")

    def _note_epochs(self) -> None:
        if self.job_id is None:
            return
        with psycopg.connect(self.stack.training_db_url) as connection:
            jobs = JobRepository(connection)
            epochs = jobs.list_epochs(self.job_id)
            job = jobs.get(self.job_id)
        self._planned = job.epochs if job else None
        if job and job.resumed_epoch is not None:
            # A job that continues another job starts with that job's epochs.
            self._history = sum(epoch.epoch <= job.resumed_epoch for epoch in epochs)
        if not self.steps.console.is_terminal:
            for epoch in epochs[max(len(self._epochs), self._history) :]:
                self.steps.say(f"    {self._describe_progress(epoch)}  {_describe_metrics(epoch)}")
        self._epochs = epochs

    def _kill_training(self) -> None:
        if self.crash_after is None or len(self._epochs) < self.crash_after:
            return
        instances = self.stack.api.list_task_instances(self.dag_id, self.run_id)
        attempt = next(instance["id"] for instance in instances if instance["task_id"] == "train")
        victims = find_task_processes(attempt)
        for process in victims:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if victims:
            self.steps.say(
                "  train: killed with kill -9 by this demo, as if its machine had died; Airflow will retry it"
            )
        self.crash_after = None

    def _describe_progress(self, epoch: RecordedEpoch) -> str:
        total = f"/{self._planned}" if self._planned else ""
        left = f"  {timedelta(seconds=round(epoch.eta_seconds))} left" if epoch.eta_seconds else ""
        return f"epoch {epoch.epoch + 1}{total}{left}"

    def _build_panel(self) -> RenderableType:
        active = [f"{name} {state}" for name, state in self._states.items() if state not in TASK_ENDED]
        lines: list[RenderableType] = [Text(f"  {', '.join(active) or 'waiting for the scheduler'} ...")]
        if len(self._epochs) > self._history and "record_checkpoints" not in self._states:
            last = self._epochs[-1]
            row = Table.grid(padding=(0, 1))
            bar = ProgressBar(self._planned or 0, last.epoch + 1, width=30)
            row.add_row("   ", bar, self._describe_progress(last))
            lines += [row, Text(f"    {_describe_metrics(last)}")]
        return Group(*lines)


def _describe_metrics(epoch: RecordedEpoch) -> str:
    losses = "  ".join(
        f"{name.removeprefix('train/').removesuffix('_loss')} {value:.3f}"
        for name, value in epoch.metrics.items()
        if name.startswith("train/") and value is not None
    )
    known = find_quality(epoch.metrics)
    return f"loss: {losses}" + (f"  {known[0]} {known[1]:.3f}" if known else "")


def find_task_processes(task_instance_id: str) -> list[psutil.Process]:
    """Return the process that runs this attempt and the processes forked from it, but not its supervisor.

    Airflow writes the attempt's id into the titles of the process and of its supervisor, which reports to
    Airflow. A program that the process starts, such as one for another GPU, has a different title and is not
    returned.
    """
    titled = {
        process.pid: process
        for process in psutil.process_iter(["cmdline", "ppid"])
        if task_instance_id in " ".join(process.info["cmdline"] or [])
    }
    return [process for process in titled.values() if process.info["ppid"] in titled]
