"""Runs attempts of the task `train` without Airflow's scheduling, in processes that are interrupted."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg

from include.audit.leftovers import JOB_FOLDERS
from include.checkpoints.store import CheckpointStore
from include.claim.resolved_job import ResolvedJob
from include.datasets.check import inspect_dataset
from include.datasets.reference import DatasetReference
from include.datasets.s3 import S3ObjectReader
from include.deployment.settings import Settings
from include.jobs.job import TrainingJob
from include.jobs.repository import JobRepository
from include.jobs.spec import TrainingSpec
from include.s3.bucket import Bucket
from tests.support.airflow_connections import connections_to
from tests.support.jobs import claim, recorded
from tests.support.killing import Attempt, Machine
from tests.support.tiny_datasets import build
from tests.support.tiny_models import architecture
from tests.support.tiny_trainings import weights_of
from tests.support.untrained import best
from tests.support.waiting import until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.stack.s3 import S3
    from include.ultralytics_tasks import Task

PREEMPTED = 143
HOW = ("kill", "stop", "terminate")
"""SIGKILL; SIGSTOP and then SIGKILL, as the watchdog does; SIGTERM, as when a machine is taken away."""

PUBLISH_SECONDS = 0.2
"""States are saved this often instead of every 60 s, because an epoch takes only a second."""


@dataclass(frozen=True)
class Place:
    """The services and the folder that the training runs of a test share."""

    s3: S3
    client: S3Client
    bucket: str
    database_url: str
    folder: Path

    def environment(self) -> dict[str, str]:
        """Return Airflow's connections as environment variables of a worker."""
        return connections_to(self.database_url, self.s3)


@dataclass(frozen=True)
class Interruption:
    """One interruption, and the seconds of training that it cost."""

    how: str
    disk: str
    seconds: float


@dataclass
class Trial:
    """One job, whose run is uninterrupted or is interrupted again and again."""

    place: Place
    job_id: str
    task: Task
    processes: int
    epochs: int
    rules: Mapping[str, Any] = field(default_factory=dict)
    interruptions: list[Interruption] = field(default_factory=list)
    attempts: int = 0
    machines: int = 0

    def __post_init__(self) -> None:
        folder = self.place.folder
        data = folder / f"{self.task}-data"
        if not data.exists():
            build(self.task, data, train=100, val=4)
        dataset = str(data if self.task == "classify" else data / "data.yaml")
        model = f"s3://{self.place.bucket}/{self.task}.pt"
        job_spec = TrainingSpec(
            task=self.task,
            dataset=dataset,
            model=model,
            epochs=self.epochs,
            imgsz=64,
            batch=4,
            overrides={"plots": False, "nbs": 12, "close_mosaic": 2},
            **self.rules,
        )
        self.spec = job_spec.with_defaults().model_copy(update={"publish_seconds": PUBLISH_SECONDS})
        settings = _settings(self.place.bucket, self._root, folder)
        reader = S3ObjectReader(self.place.client)
        self.dataset = inspect_dataset(
            dataset, self.task, settings.dataset_cache, reader, settings.dataset_roots
        ).reference
        with psycopg.connect(self.place.database_url) as connection:
            spec = self.spec.model_dump(mode="json", exclude={"job_id"})
            claim(JobRepository(connection), self.job_id, spec=spec, epochs=self.epochs)

    @property
    def row(self) -> TrainingJob:
        with psycopg.connect(self.place.database_url) as connection:
            return recorded(JobRepository(connection), self.job_id)

    def interrupt(self, how: str, rng: random.Random, *, disk_lost: bool) -> None:
        """Interrupt an attempt some batches after its first state is durable."""
        begun = _durable(self.row)
        with self._attempt() as attempt:
            until(lambda: self._is_under_way(attempt, begun), "a durable state", pause=0.02)
            lost_before = self.row.lost_seconds or 0.0  # including the cost of the previous interruption
            time.sleep(rng.uniform(0, 3 * PUBLISH_SECONDS))
            if how != "terminate":
                os.kill(attempt.pid, signal.SIGSTOP)
                time.sleep(rng.uniform(0, 0.5) if how == "stop" else 0)
                attempt.kill()
            else:
                os.kill(attempt.pid, signal.SIGTERM)
            expected = PREEMPTED if how == "terminate" else -signal.SIGKILL
            assert attempt.status() == expected, attempt.log.read_text()
        assert {left.name for left in (self._root / self.job_id).iterdir()} <= JOB_FOLDERS
        if disk_lost:
            shutil.rmtree(self._root, ignore_errors=True)  # the watchdog may be writing its trace
            self.machines += 1
        self._pending = (how, "lost" if disk_lost else "kept", lost_before)

    def end(self) -> str:
        """Let an attempt train to the end; return the hash of its weights."""
        with self._attempt() as attempt:
            assert attempt.status() == 0, attempt.log.read_text()
        self._account()
        assert self.row.inexact_reason is None
        store = CheckpointStore(Bucket(self.place.client, self.place.bucket))
        last = Path(store.download(self.job_id, "last", self.place.folder / f"{self.job_id}.pt").path)
        return weights_of(last)

    _pending: tuple[str, str, float] | None = None

    def _account(self) -> None:
        if self._pending is not None:
            how, disk, before = self._pending
            self.interruptions.append(Interruption(how, disk, (self.row.lost_seconds or 0.0) - before))
            self._pending = None

    def _is_under_way(self, attempt: Attempt, before: tuple[int, int]) -> bool:
        row = self.row
        assert psutil.pid_exists(attempt.pid), attempt.log.read_text()
        if row.attempt != self.attempts:
            return False
        self._account()  # the attempt has recorded the loss of the previous attempt
        return _durable(row) > before

    @property
    def _root(self) -> Path:
        return self.place.folder / f"{self.job_id}-machine-{self.machines}"

    def _attempt(self) -> Attempt:
        self.attempts += 1
        job = ResolvedJob(
            job_id=self.job_id, dag_id="train_yolo", run_id="run1", origin_run_id="run1", spec=self.spec
        )
        return Attempt(
            train,
            self.place.environment(), job, self.dataset, self._root, self.place.bucket, self.attempts,
            self.place.folder, self.processes,
            folder=self.place.folder / f"{self.job_id}-attempt-{self.attempts}",
            machine=Machine(threads=1),
        )  # fmt: skip


def _durable(row: TrainingJob) -> tuple[int, int]:
    return row.durable or (-1, 0)


def store_model(place: Place, task: Task) -> None:
    """Store the model that all training runs of the task start from."""
    path = best(task, place.folder / f"{task}.pt", architecture=architecture(place.folder, task))
    place.client.upload_file(str(path), place.bucket, path.name)


def train(
    environment: dict[str, str],
    job: ResolvedJob,
    dataset: DatasetReference,
    root: Path,
    bucket: str,
    attempt: int,
    data_root: Path,
    processes: int,
) -> int:
    """Run an attempt as the body of its process; return 143 after a SIGTERM."""
    os.environ |= environment
    from include.attempt import epoch_recorder
    from include.attempt.attempt import TrainingAttempt
    from include.attempt.preemption import Preempted
    from include.deployment.connections import open_bucket

    epoch_recorder._PROGRESS_SECONDS = 0.02  # so that lost training time is measured to within a batch
    if processes > 1:
        _share_cpu(processes)
    settings = _settings(bucket, root, data_root)
    try:
        TrainingAttempt(
            job,
            dataset,
            attempt,
            settings,
            lambda: CheckpointStore(open_bucket(settings), run_id="run1"),
        ).run()
    except Preempted:
        return PREEMPTED
    return 0


def _settings(bucket: str, root: Path, data_root: Path) -> Settings:
    return Settings(bucket=bucket, training_root=root, dataset_folders=(data_root,), is_cpu_worker=True)


def _share_cpu(processes: int) -> None:
    """Let `processes` processes on the CPU share each batch, as several GPUs would."""
    from functools import partial

    from include.training import run
    from include.training.distributed import train_in_ranks

    ranks: Any = partial(train_in_ranks, program="tests.support.ranks_on_cpu")
    run.train_in_ranks = ranks  # type: ignore[attr-defined]
    run.count_devices = lambda device: processes  # type: ignore[attr-defined]
