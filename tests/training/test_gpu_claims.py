"""Each training run keeps its own GPU as long as it lives, and uses a CPU only if asked to.

No GPU is needed: the tests replace the list of GPUs that the driver would return.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pynvml
import pytest
import torch

from include.checkpoints.keys import EXACT
from include.training import devices, gpus
from include.training.contract import DeviceNotAvailable, GpuLost, NoGpuFree, TrainingRequest
from include.training.gpu_claims import claim_gpus, wait_for_gpus
from include.training.gpus import (
    VISIBLE,
    Gpu,
    describe_hardware,
    list_gpus,
    require_hardware,
    visible_gpus,
)
from include.training.loading import load_checkpoint
from include.training.run import train
from tests.support.tiny_trainings import Epochs, GivesUp, recovery, request

GPUS = [Gpu("GPU-aa11", "H100"), Gpu("GPU-bb22", "H100"), Gpu("MIG-cc33", "A100 MIG 1g.5gb")]


@pytest.fixture(autouse=True)
def three_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "list_gpus", lambda: GPUS)
    monkeypatch.delenv(VISIBLE, raising=False)


def hold(device: str, locks: Path, connection: Connection) -> None:
    """Claim a GPU, fork a child that may outlive this process, and send the devices that CUDA would see."""
    with claim_gpus(device, locks):
        if os.fork() == 0:
            # Here the child has already released the claim that it inherited.
            connection.send((os.environ[VISIBLE], os.getpid()))
            time.sleep(60)
            os._exit(0)
        time.sleep(60)


@contextmanager
def another_training(device: str, locks: Path) -> Iterator[str]:
    """Run a process that claims a GPU; kill it at the end of the block, and its child after the test."""
    connection, theirs = get_context("fork").Pipe()
    process = get_context("fork").Process(target=hold, args=(device, locks, theirs))
    process.start()
    seen, child = connection.recv()
    try:
        yield seen
    finally:
        process.kill()
        process.join()
        _ORPHANS.append(child)


_ORPHANS: list[int] = []


@pytest.fixture(autouse=True)
def no_orphans() -> Iterator[None]:
    yield
    while _ORPHANS:
        os.kill(_ORPHANS.pop(), signal.SIGKILL)


def test_a_divided_gpu_is_replaced_by_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine has two GPUs, and the second one is divided into MIG parts 0 and 2."""
    parts = {"GPU-aa": {}, "GPU-bb": {0: "MIG-b0", 2: "MIG-b2"}}

    def part_of(gpu: str, number: int) -> str:
        if number not in parts[gpu]:
            raise pynvml.NVMLError_NotFound
        return parts[gpu][number]

    def most_parts(gpu: str) -> int:
        if not parts[gpu]:
            raise pynvml.NVMLError_NotSupported
        return 7

    for name, stand_in in (
        ("nvmlInit", lambda: None),
        ("nvmlShutdown", lambda: None),
        ("nvmlDeviceGetCount", lambda: len(parts)),
        ("nvmlDeviceGetHandleByIndex", list(parts).__getitem__),
        ("nvmlDeviceGetMaxMigDeviceCount", most_parts),
        ("nvmlDeviceGetMigDeviceHandleByIndex", part_of),
        ("nvmlDeviceGetUUID", lambda handle: handle),
        ("nvmlDeviceGetName", lambda handle: "A100"),
    ):
        monkeypatch.setattr(pynvml, name, stand_in)
    assert [gpu.uuid for gpu in list_gpus()] == ["GPU-aa", "MIG-b0", "MIG-b2"]


def test_a_driver_that_hangs_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    monkeypatch.setattr(pynvml, "nvmlInit", answers.wait)
    monkeypatch.setattr(gpus, "_DRIVER_SECONDS", 0.1)
    with pytest.raises(GpuLost, match="The driver of this machine's GPUs has not responded for 0 s"):
        list_gpus()
    answers.set()


def test_training_runs_take_different_gpus_until_none_is_free(tmp_path: Path) -> None:
    with ExitStack() as others:
        seen = [others.enter_context(another_training("auto", tmp_path)) for _ in GPUS]
        assert seen == [gpu.uuid for gpu in GPUS]
        with (
            pytest.raises(NoGpuFree, match="are using GPU-aa11, GPU-bb22, MIG-cc33"),
            claim_gpus(None, tmp_path),
        ):
            pass
    with claim_gpus(None, tmp_path) as device:
        assert (device, os.environ[VISIBLE]) == ("0", "GPU-aa11")
    assert VISIBLE not in os.environ


def test_a_run_waits_for_a_gpu_in_use_and_logs_that_it_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    begun = threading.Event()

    def wait() -> None:
        begun.set()
        with wait_for_gpus("0", tmp_path, 60, pause=0.05) as device:
            got.append(device)

    got: list[str | None] = []
    waiting = threading.Thread(target=wait)
    with another_training("0", tmp_path):
        waiting.start()
        begun.wait()
        with (
            pytest.raises(NoGpuFree, match="another training run is using GPU 0"),
            wait_for_gpus("0", tmp_path, 0.2, pause=0.05),
        ):
            pass
        assert got == []
    waiting.join(60)
    assert got == ["0"]
    assert "another training run is using GPU 0 of this machine" in caplog.text


def test_a_killed_run_frees_its_gpu_although_a_child_process_survives(tmp_path: Path) -> None:
    with (
        another_training("0", tmp_path),
        pytest.raises(NoGpuFree, match="device=0: another training run is using GPU 0"),
        claim_gpus("0", tmp_path),
    ):
        pass
    assert _ORPHANS
    with claim_gpus("0", tmp_path):
        assert os.environ[VISIBLE] == "GPU-aa11"


def test_several_gpus_are_claimed_together_or_not_at_all(tmp_path: Path) -> None:
    with claim_gpus("2,0", tmp_path) as device:
        assert (device, os.environ[VISIBLE]) == ("0,1", "MIG-cc33,GPU-aa11")
    with another_training("1", tmp_path):
        with pytest.raises(NoGpuFree), claim_gpus("0,1", tmp_path):
            pass
        with claim_gpus("0", tmp_path):
            pass


@pytest.mark.parametrize(
    ("variable", "left"),
    [
        (None, [0, 1, 2]),
        ("2,0", [2, 0]),
        ("GPU-bb", [1]),
        ("MIG-cc33,GPU-aa11", [2, 0]),
        ("0,7,1", [0]),
        ("1,1", [1]),
        ("-1", []),
        ("", []),
    ],
)
def test_cuda_visible_devices_is_respected(variable: str | None, left: list[int]) -> None:
    assert visible_gpus(GPUS, variable) == [GPUS[number] for number in left]


def test_a_device_number_counts_only_visible_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "GPU-bb22,GPU-aa11")
    with claim_gpus("1", tmp_path):
        assert os.environ[VISIBLE] == "GPU-aa11"
    with pytest.raises(DeviceNotAvailable, match="numbered 0 to 1"), claim_gpus("2", tmp_path):
        pass


def test_the_hardware_of_a_run_is_recorded(tmp_path: Path) -> None:
    with claim_gpus("0,1", tmp_path) as device:
        hardware = describe_hardware(device)
    assert (hardware.machine, hardware.driver) == (socket.gethostname(), None)  # no NVIDIA driver
    assert hardware.gpu == "2x H100"
    assert describe_hardware("cpu").gpu == "CPU"


def test_a_cpu_is_used_only_if_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    require_hardware(None, cpu_worker=False)
    monkeypatch.setattr(gpus, "list_gpus", list)
    monkeypatch.setattr(gpus, "has_hardware", lambda: False)
    for device in (None, "auto"):
        require_hardware(device, cpu_worker=True)
        with pytest.raises(DeviceNotAvailable, match=r"has no GPU, and its CPU, .* was not requested"):
            require_hardware(device, cpu_worker=False)
    require_hardware("cpu", cpu_worker=False)
    with pytest.raises(DeviceNotAvailable, match=r"device=0,1 is not available: .* has no GPU\. Give"):
        require_hardware("0,1", cpu_worker=True)
    monkeypatch.setattr(gpus, "has_hardware", lambda: True)
    for cpu_worker in (False, True):
        with pytest.raises(GpuLost, match="has an NVIDIA GPU that its driver does not report"):
            require_hardware(None, cpu_worker=cpu_worker)
    monkeypatch.setenv(VISIBLE, "-1")
    require_hardware(None, cpu_worker=True)


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_a_run_that_needs_no_gpu_claims_none(device: str, tmp_path: Path) -> None:
    with claim_gpus(device, tmp_path) as given:
        assert given == device
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def trained_on_gpu(tmp_path: Path) -> TrainingRequest:
    """Return a request that resumes a run whose saved state names a GPU."""
    wanted = request("classify", tmp_path, identity={"job": "a"})
    with pytest.raises(GivesUp.Enough):
        train(wanted, GivesUp(after=1))
    last = wanted.save_dir / "weights" / "last.pt"
    state = load_checkpoint(last)
    state[EXACT]["profile"] |= {"device": "NVIDIA H100", "cuda": "13.2"}
    torch.save(state, last)
    return recovery(wanted)


@pytest.mark.parametrize("device", [None, "0"])
def test_a_run_that_began_on_a_gpu_is_not_resumed_on_the_cpu(
    device: str | None, trained_on_gpu: TrainingRequest
) -> None:
    with pytest.raises(GpuLost, match="was trained on a GPU, and this machine has no usable GPU"):
        train(replace(trained_on_gpu, device=device), Epochs())


def test_a_run_that_began_on_a_gpu_is_resumed_on_the_cpu_if_requested(
    trained_on_gpu: TrainingRequest,
) -> None:
    epochs = Epochs()
    train(trained_on_gpu, epochs)
    assert "device" in (epochs.reports[-1].inexact_reason or "")


@pytest.mark.parametrize("device", [None, "auto", "0"])
def test_a_gpu_that_does_not_respond_is_not_replaced_by_the_cpu(
    device: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(gpus, "has_hardware", partial(gpus.has_hardware, tmp_path))
    with pytest.raises(GpuLost, match="this machine has an NVIDIA GPU, but torch cannot use it"):
        devices.choose_device(device)
    assert devices.choose_device("cpu") == "cpu"
    monkeypatch.setenv(VISIBLE, "")
    assert devices.choose_device(None) == "cpu"
