"""A loader worker that is killed is named, whatever its death interrupts or breaks."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import resource_sharer
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils import signal_handling

from include.training import evaluate as evaluation
from include.training import loading
from include.training.contract import ProcessKilled
from include.training.library_errors import recognize_killed_workers
from include.training.loading import load_inspected
from include.training.saving import write
from tests.support.waiting import until

BY_SIGNAL = r"^DataLoader worker \(pid.*\) is killed by signal: Killed$"


class DisconnectedImages(Dataset[torch.Tensor]):
    """Images whose worker refuses connections, like a process whose files the kernel has closed."""

    def __init__(self, disconnected: Path, is_killed: bool) -> None:
        self.disconnected = disconnected
        self.is_killed = is_killed

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> torch.Tensor:
        if index == 0:
            threading.Thread(target=self._disconnect, daemon=True).start()
        return torch.zeros(16)

    def _disconnect(self) -> None:
        sys.excepthook = lambda *error: time.sleep(60)  # the server would report its broken socket for ever
        server = resource_sharer._resource_sharer  # type: ignore[attr-defined]
        until(lambda: server._listener is not None, "the worker's server", pause=0.01)
        server._listener._listener._socket.shutdown(socket.SHUT_RDWR)
        self.disconnected.touch()
        if self.is_killed:
            until(self.disconnected.with_name("failed").exists, "the parent's error", pause=0.01)
            time.sleep(0.3)  # until the error has left the parent's `finally`
            os.kill(os.getpid(), signal.SIGKILL)


class Numbers(Dataset[torch.Tensor]):
    """Samples whose loader is killed from outside."""

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor(index)


@pytest.fixture(autouse=True)
def sigchld(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let PyTorch install its SIGCHLD handler, which tests of SIGTERM have replaced in this process."""
    former = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    monkeypatch.setattr(signal_handling, "_SIGCHLD_handler_set", False)
    yield
    signal.signal(signal.SIGCHLD, former)


@pytest.fixture
def worker_pid() -> Iterator[int]:
    """Yield the process id of a loader worker."""
    batches: Any = iter(DataLoader(Numbers(), num_workers=1))
    next(batches)
    yield batches._workers[0].pid
    batches._shutdown_workers()


@pytest.fixture
def kill_worker(worker_pid: int) -> Callable[..., None]:
    """Return a function that kills the worker; it returns only if the death raises no error."""

    def kill(*_: object, **__: object) -> None:
        os.kill(worker_pid, signal.SIGKILL)
        time.sleep(60)  # PyTorch's SIGCHLD handler raises its error here

    return kill


def load(folder: Path, is_killed: bool, wait_seconds: float) -> None:
    disconnected = folder / "disconnected"
    batches = iter(DataLoader(DisconnectedImages(disconnected, is_killed), num_workers=1))
    until(disconnected.exists, "a worker that refuses connections", pause=0.01)
    with recognize_killed_workers(wait_seconds):
        try:
            next(batches)
        finally:
            (folder / "failed").touch()


def test_a_connection_that_breaks_before_the_worker_is_dead_is_a_killed_worker(tmp_path: Path) -> None:
    with pytest.raises(ProcessKilled, match=BY_SIGNAL) as failed:
        load(tmp_path, is_killed=True, wait_seconds=60)
    assert isinstance(failed.value.__cause__, ConnectionError)


def test_a_broken_connection_to_a_living_worker_is_not_reported_as_a_kill(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        load(tmp_path, is_killed=False, wait_seconds=0.2)


@pytest.mark.parametrize(("is_killed", "wait_seconds"), [(True, 60), (False, 0.2)])
def test_a_broken_connection_may_appear_as_the_end_of_the_thread_that_pins_memory(
    worker_pid: int, is_killed: bool, wait_seconds: float
) -> None:
    if is_killed:
        threading.Timer(0.3, os.kill, (worker_pid, signal.SIGKILL)).start()
    with pytest.raises(ProcessKilled if is_killed else RuntimeError), recognize_killed_workers(wait_seconds):
        raise RuntimeError("Pin memory thread exited unexpectedly")


def test_a_checkpoint_is_not_called_damaged_if_a_worker_is_killed_while_it_is_read(
    kill_worker: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "best.pt").write_bytes(b"")
    monkeypatch.setattr(loading, "inspect_file", kill_worker)
    with pytest.raises(ProcessKilled, match=BY_SIGNAL), recognize_killed_workers():
        load_inspected(tmp_path / "best.pt")


def test_the_disk_is_not_blamed_if_a_worker_is_killed_while_a_state_is_written(
    kill_worker: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "save", kill_worker)
    with pytest.raises(ProcessKilled, match=BY_SIGNAL), recognize_killed_workers():
        write({}, tmp_path / "last.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_is_killed_during_an_evaluation_is_named(
    kill_worker: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "_require_model_for", lambda *_: None)
    monkeypatch.setattr(evaluation, "_measure", kill_worker)
    with pytest.raises(ProcessKilled, match=BY_SIGNAL):
        evaluation.evaluate(tmp_path / "best.pt", tmp_path / "data.yaml", "detect", device="cpu")
