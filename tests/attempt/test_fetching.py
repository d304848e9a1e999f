"""An attempt fetches its data before it claims a GPU, so another job can use the GPU meanwhile."""

from __future__ import annotations

import fcntl
import os
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from include.attempt import attempt as attempts
from include.attempt.attempt import TrainingAttempt
from include.attempt.job_record import JobRecord
from include.claim.resolved_job import ResolvedJob
from include.datasets import digits
from include.datasets.caching import fetch
from include.datasets.check import inspect_dataset
from include.datasets.errors import DatasetChanged
from include.datasets.layouts.boundary import DatasetRoots
from include.datasets.reference import DatasetReference
from include.deployment.settings import Settings
from include.jobs.spec import TrainingSpec
from include.s3.bucket import Bucket
from include.training import gpus
from include.training.contract import DeviceNotAvailable, GpuLost, NoGpuFree, ProcessKilled
from include.training.gpu_claims import wait_for_gpus
from include.training.gpus import Gpu
from tests.support.dataset_steps import unused_client
from tests.support.killed_reader import be_killed
from tests.support.tiny_datasets import build

GPU = Gpu("GPU-1", "NVIDIA H200")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings of a machine; these tests contact neither S3 nor the database."""
    monkeypatch.setattr(attempts, "prepare_training_db", lambda: None)
    monkeypatch.setattr(attempts, "open_bucket", lambda settings: Bucket(unused_client(), settings.bucket))
    monkeypatch.setattr(attempts, "_GPU_SECONDS", 0.0)
    return Settings("bucket", tmp_path / "training")


def attempt(
    settings: Settings, dataset: DatasetReference | None = None, device: str | None = None
) -> TrainingAttempt:
    dataset = dataset or digits.build_reference()
    spec = TrainingSpec(dataset=dataset.source, model="yolo11n", device=device).with_defaults()
    job = ResolvedJob(job_id="a", dag_id="train_yolo", run_id="r", origin_run_id="r", spec=spec)

    def open_store() -> None:
        raise AssertionError("the attempt continued to its state in S3")

    return TrainingAttempt(job, dataset, 1, settings, open_store)  # type: ignore[arg-type]


def is_fetched(settings: Settings) -> bool:
    return (settings.dataset_cache / digits.FINGERPRINT / "view-detect" / "data.yaml").is_file()


def test_a_job_whose_gpu_is_taken_has_its_data_already(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "list_gpus", lambda: [GPU])
    monkeypatch.setattr(
        JobRecord, "leave_queue", lambda *_: pytest.fail("the job left the queue without a GPU")
    )
    settings.gpu_locks.mkdir(parents=True)
    settings.training_root.chmod(0o700)
    with (settings.gpu_locks / f"{GPU.uuid}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(NoGpuFree):
            attempt(settings).run()
    assert is_fetched(settings)


def test_a_cleaner_of_tmp_leaves_the_files_of_an_attempt_alone(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd-tmpfiles locks each folder that it looks into, and would remove the locks of GPUs, too."""

    def clean(*_: object) -> None:
        descriptor = os.open(settings.training_root, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
        raise NoGpuFree("This attempt has been watched long enough")

    monkeypatch.setattr(attempts, "wait_for_gpus", clean)
    with pytest.raises(NoGpuFree):
        attempt(settings, device="cpu").run()


def test_a_machine_without_the_required_hardware_fetches_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "list_gpus", list)
    monkeypatch.setattr(gpus, "has_hardware", lambda: False)
    monkeypatch.setattr(TrainingAttempt, "read_durable_progress", lambda _: (0, 0))
    with pytest.raises(DeviceNotAvailable, match="its CPU, which is many times slower, was not requested"):
        attempt(settings).run()
    assert not is_fetched(settings)


@pytest.mark.parametrize("device", [None, "0"])
def test_a_run_with_a_saved_state_continues_on_a_machine_with_a_gpu(
    device: str | None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "list_gpus", list)
    monkeypatch.setattr(gpus, "has_hardware", lambda: False)
    monkeypatch.setattr(TrainingAttempt, "read_durable_progress", lambda _: (3, 0))
    with pytest.raises(GpuLost, match="continues on another machine"):
        attempt(settings, device=device).run()
    assert not is_fetched(settings)


@pytest.mark.parametrize("device", ["7", "0,1"])
def test_a_machine_without_the_requested_gpu_fetches_nothing(
    device: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "list_gpus", lambda: [GPU])
    monkeypatch.setattr(TrainingAttempt, "read_durable_progress", lambda _: (0, 0))
    with pytest.raises(DeviceNotAvailable, match=f"device={device} is not available"):
        attempt(settings, device=device).run()
    assert not is_fetched(settings)


def test_a_kill_of_the_process_that_reads_checked_data_counts_as_a_killed_attempt(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "read_and_fill_view", be_killed)
    killed = attempt(settings, device="cpu")
    with pytest.raises(ProcessKilled, match="The process that reads dataset 'digits' was killed by SIGKILL"):
        killed.run()
    trace = killed.read_trace()
    assert trace is not None
    assert trace.detail.startswith("The process that reads dataset 'digits' was killed by SIGKILL")


def test_data_that_change_while_the_job_waits_for_a_gpu_are_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    build("detect", tmp_path / "data", train=2, val=1)
    source, roots = str(tmp_path / "data" / "data.yaml"), DatasetRoots((tmp_path / "data",))
    settings = replace(settings, dataset_folders=(tmp_path / "data",))
    checked = inspect_dataset(source, "detect", settings.dataset_cache, None, roots).reference
    wait = wait_for_gpus

    def change_and_wait(*arguments: Any) -> AbstractContextManager[str | None]:
        (tmp_path / "data/labels/train/0.txt").write_text("0 0.5 0.5 0.3 0.3\n")
        return wait(*arguments)

    monkeypatch.setattr(attempts, "wait_for_gpus", change_and_wait)
    with pytest.raises(DatasetChanged, match="were changed after the check, while the job waited for a GPU"):
        attempt(settings, checked, device="cpu").run()
