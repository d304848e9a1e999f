"""Training runs under the real scheduler, and the costs of killing their processes."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg

from include.checkpoints.store import CheckpointStore
from include.deployment.settings import DEFAULT_BUCKET
from include.s3.bucket import Bucket
from include.stack.follow import find_task_processes
from include.stack.local import Stack
from tests.support.airflow_client import Airflow, download, job_row, recorded_epochs
from tests.support.stacks import process_of
from tests.support.tiny_trainings import weights_of
from tests.support.untrained import pretrained_tiny
from tests.support.waiting import until

DAG = "train_yolo"

_TRAINS = "This attempt is training"

_FINISHED = re.compile(r"epoch=(\d+)/\d+ train/")

_BEGUN = re.compile(r"(?:Resuming after|Starting from the state of job .* after) (batch \d+ of )?epoch (\d+)")


def small_job(stack: Stack, folder: Path, epochs: int) -> dict[str, Any]:
    """Return the parameters of a job with epochs of less than a second: a tiny detector on the digits.

    Other parameters are Ultralytics' defaults, with all augmentation. Gradients accumulate across epoch ends.
    """
    return {
        "dataset": "digits",
        "model": pretrained_tiny(stack.s3.client(), DEFAULT_BUCKET, folder),
        "imgsz": 64,
        "batch": 4,
        "epochs": epochs,
        "overrides": {"fraction": 0.15, "plots": False, "nbs": 12},
    }


@dataclass(frozen=True)
class Kill:
    """A killed process, and the cost of the kill. `epoch` is the last recorded epoch, counted from 0.

    `went_on_after` is the epoch of the state with which the next attempt began, or -1 if it had none. Three
    fields are seconds from the kill until the next attempt logs its first line (`started_after`), has its
    state (`seconds`) and has finished a batch (`trains_after`).
    """

    stage: str
    attempt: int
    epoch: int
    moment: float
    went_on_after: int = -1
    seconds: float | None = None
    started_after: float | None = None
    trains_after: float | None = None

    @property
    def lost(self) -> int:
        """Return the number of finished epochs that are repeated; 0 if the next attempt had no state."""
        return max(0, self.epoch - self.went_on_after) if self.went_on_after >= 0 else 0


class Training:
    """A run of `train_yolo` that is triggered over REST; only Airflow starts its attempts."""

    def __init__(self, api: Airflow, stack: Stack, conf: dict[str, Any]) -> None:
        self.api, self.stack = api, stack
        self.job_id = str(conf["job_id"])
        self.run_id = api.trigger(DAG, conf)
        self.kills: list[Kill] = []
        self._killed: set[int] = set()

    @property
    def row(self) -> dict[str, Any]:
        """Return the job's current row."""
        return job_row(self.stack, self.job_id)

    @property
    def folder(self) -> Path:
        """Return the job's folder on the training machine."""
        return Path(self.stack.airflow.variables["TRAINING_ROOT"]) / self.job_id

    @property
    def weights(self) -> Path:
        return self.folder / "runs" / "train" / "weights"

    @property
    def attempt(self) -> int:
        """Return Airflow's number of the current attempt at `train`, counted from 1."""
        return self.api.attempt(DAG, self.run_id, "train")[1]

    @property
    def recorded(self) -> int:
        """Return the last epoch that is recorded as finished, or -1 before the first."""
        return max(recorded_epochs(self.stack, self.job_id), default=-1)

    def process(self, task_id: str = "train") -> psutil.Process:
        """Wait for the process of the task's current attempt, which must not be a killed one; return it."""
        found: list[psutil.Process] = []

        def has_started() -> bool:
            self.require_running()
            processes = find_task_processes(self.api.attempt(DAG, self.run_id, task_id)[0])
            found[:] = [process for process in processes if process.pid not in self._killed]
            return bool(found)

        until(has_started, f"a process of {task_id}")
        return found[0]

    def reaches(self, epoch: int) -> None:
        """Wait until an attempt after the last kill trains and the epoch (from 0) is recorded."""
        killed = self.kills[-1].attempt if self.kills else 0

        def has_reached() -> bool:
            self.require_running()
            if (attempt := self.row["attempt"] or 0) <= killed or self.recorded < epoch:
                return False
            return _TRAINS in self.log(attempt)  # before that, the records are those of an older attempt

        until(self._has_row, "a row of the job")
        until(has_reached, f"epoch {epoch}")

    @contextmanager
    def before_the_next_attempt(self) -> Iterator[None]:
        """Suspend the scheduler in the block; otherwise it would start an attempt a second after a kill."""
        with standing_still(process_of(self.stack.state.path, "scheduler")):
            yield

    def kill(self, stage: str, *processes: psutil.Process, how: int = signal.SIGKILL) -> None:
        """Send the signal, wait for the processes to end, and note the kill with the last recorded epoch."""
        if how == signal.SIGKILL:
            for process in processes:
                process.suspend()  # stop it at once, before the slow request below
        attempt, moment = self.attempt, time.time()
        for process in processes:
            self._killed.add(process.pid)
            with suppress(psutil.NoSuchProcess):
                process.send_signal(how)
        until(lambda: all(map(has_ended, processes)), f"{stage}: the end of the process", 180, pause=0.02)
        self.kills.append(Kill(stage, attempt, self.recorded, moment))

    def wipe(self) -> None:
        """Delete the job's folder, as if the next attempt were on another machine."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.kills[-1] = replace(self.kills[-1], stage=f"{self.kills[-1].stage}; disk lost")

    def leave_one_retry(self) -> None:
        """Make the next attempt the last one; Airflow's database allows this, but its API does not."""
        with psycopg.connect(self.stack.postgres.build_url("airflow")) as connection:
            connection.execute(
                "UPDATE task_instance SET max_tries = try_number WHERE run_id = %s AND task_id = 'train'",
                [self.run_id],
            )

    def request_stop(self) -> None:
        """Set the stop flag in the row, as the console's button does."""
        with psycopg.connect(self.stack.training_db_url) as connection:
            connection.execute(
                "UPDATE training_jobs SET stop_requested = TRUE WHERE job_id = %s", [self.job_id]
            )

    def ends(self, seconds: float = 300) -> dict[str, Any]:
        """Wait for the run to succeed; return the row."""
        self.api.succeeds(DAG, self.run_id, seconds)
        return self.row

    def fails(self, seconds: float = 300) -> dict[str, Any]:
        """Wait for the run to fail and for the failure to be recorded; return the row."""
        assert self.api.wait(DAG, self.run_id, seconds) == "failed"
        until(lambda: self.row["status"] not in {"queued", "running"}, "the end of the run in the row")
        return self.row

    def require_running(self) -> None:
        state = self.api.state(DAG, self.run_id)
        assert state in {"queued", "running"}, (state, self.api.tasks(DAG, self.run_id))

    def log(self, attempt: int, task_id: str = "train") -> str:
        """Return the attempt's log so far, a line of JSON for each event."""
        return self.api.log(DAG, self.run_id, task_id, attempt)

    def reported(self) -> list[Kill]:
        """Return the kills with their costs, from the logs of the next attempts; the run must have ended."""
        return [self._continued(kill) for kill in self.kills]

    def repeated_epochs(self) -> int:
        """Return how many epochs several attempts finished, from the logs; the run must have ended."""
        finished: Counter[str] = Counter()
        for attempt in range(1, self.attempt + 1):
            finished.update(set(_FINISHED.findall(self.log(attempt))))
        return sum(times > 1 for times in finished.values())

    def _continued(self, kill: Kill) -> Kill:
        for attempt in range(kill.attempt, self.attempt + 1):
            started = found = None
            for line in self._lines(attempt, "train"):
                after = datetime.fromisoformat(line["timestamp"]).timestamp() - kill.moment
                if after <= 0:
                    continue
                started = after if started is None else started
                event = str(line.get("event"))
                if found is None and (begun := _BEGUN.match(event)):
                    epoch = int(begun[2]) - (2 if begun[1] else 1)
                    found = replace(kill, went_on_after=epoch, seconds=after, started_after=started)
                elif found is not None and event.startswith(_TRAINS):
                    return replace(found, trains_after=after)
            if found is not None:
                return found
        return kill

    def _lines(self, attempt: int, task_id: str) -> list[dict[str, Any]]:
        lines = []
        for line in self.log(attempt, task_id).splitlines():
            with suppress(ValueError):  # the line was cut off by a kill
                lines.append(json.loads(line))
        return lines

    def _has_row(self) -> bool:
        with suppress(AssertionError):
            return bool(self.row)
        self.require_running()
        return False


def has_ended(process: psutil.Process) -> bool:
    """Return whether the process and its threads have ended.

    Airflow's supervisor, the parent, may take a second to notice; by then the next attempt is training.
    """
    try:
        return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() == 1
    except psutil.NoSuchProcess:
        return True


def store(stack: Stack) -> CheckpointStore:
    """Return the checkpoint store of the stack, for reading."""
    return CheckpointStore(Bucket(stack.s3.client(), DEFAULT_BUCKET))


def durable_epoch(stack: Stack, job_id: str) -> int:
    """Return the epoch of the job's last.pt in S3, or -1 if there is none."""
    stored = store(stack).head(job_id, "last")
    return stored.checkpoint.epoch if stored and stored.checkpoint else -1


def stored_weights(stack: Stack, job_id: str, folder: Path) -> str:
    """Return the hash of the weights in the job's last.pt in S3."""
    uri = store(stack).build_uri(job_id, "last")
    return weights_of(download(stack, uri, folder / f"{job_id}-last.pt"))


def damage(stack: Stack, job_id: str) -> None:
    """Change a byte of the job's last.pt in S3, but keep its size and metadata, as a bad disk may."""
    client, key = stack.s3.client(), store(stack).locate(job_id, "last").key
    stored = client.get_object(Bucket=DEFAULT_BUCKET, Key=key)
    content = bytearray(stored["Body"].read())
    content[len(content) // 2] ^= 1
    client.put_object(Bucket=DEFAULT_BUCKET, Key=key, Body=bytes(content), Metadata=stored["Metadata"])


def remove_states(stack: Stack, job_id: str) -> None:
    """Delete both generations of the job's state."""
    for kind in ("last", "last.previous"):
        stack.s3.client().delete_object(Bucket=DEFAULT_BUCKET, Key=f"checkpoints/{job_id}/{kind}.pt")


@contextmanager
def standing_still(*processes: psutil.Process) -> Iterator[None]:
    """Suspend the processes within the block; their sockets stay open."""
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()
