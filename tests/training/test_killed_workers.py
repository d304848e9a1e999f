"""A loader worker that is killed while it hands over a batch is recognized as killed."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from multiprocessing import resource_sharer
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from include.training.contract import ProcessKilled
from include.training.killed_workers import recognize_killed_workers


class DisconnectedImages(Dataset[torch.Tensor]):
    """Images whose worker refuses connections, as a process does whose files the kernel has closed."""

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
        while server._listener is None:
            time.sleep(0.01)
        server._listener._listener._socket.shutdown(socket.SHUT_RDWR)
        self.disconnected.touch()
        if self.is_killed:
            while not self.disconnected.with_name("failed").exists():
                time.sleep(0.01)
            time.sleep(0.3)  # until the error has left the parent's `finally`
            os.kill(os.getpid(), signal.SIGKILL)


def load(folder: Path, is_killed: bool, patience: float) -> None:
    disconnected = folder / "disconnected"
    batches = iter(DataLoader(DisconnectedImages(disconnected, is_killed), num_workers=1))
    while not disconnected.exists():
        time.sleep(0.01)
    with recognize_killed_workers(patience):
        try:
            next(batches)
        finally:
            (folder / "failed").touch()


def test_a_connection_that_breaks_before_the_worker_is_dead_is_a_killed_worker(tmp_path: Path) -> None:
    by_signal = r"^DataLoader worker \(pid.*\) is killed by signal: Killed$"
    with pytest.raises(ProcessKilled, match=by_signal) as failed:
        load(tmp_path, is_killed=True, patience=60)
    assert isinstance(failed.value.__cause__, ConnectionError)


def test_a_broken_connection_to_a_living_worker_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        load(tmp_path, is_killed=False, patience=0.2)
