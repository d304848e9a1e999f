"""Claims GPUs for a training run: each one is locked until it is released or this process ends.

CUDA reads CUDA_VISIBLE_DEVICES only when it is initialised, so GPUs must be claimed before that. The variable
lists UUIDs, because a UUID always means the same GPU.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from include.file_locks import try_lock
from include.training.contract import NoGpuFree
from include.training.gpus import VISIBLE, list_visible_gpus, names_gpus, normalize_device, require_numbers
from include.trusted_folders import make_trusted_folder

if TYPE_CHECKING:
    from include.training.gpus import Gpu

log = logging.getLogger(__name__)

_LOG_SECONDS = 60.0


@contextmanager
def claim_gpus(device: str | None, locks: Path) -> Iterator[str | None]:
    """Claim the GPUs that `device` asks for, hide all others from CUDA, and yield `device` for Ultralytics.

    None and auto take one free GPU; numbers count the GPUs in the order of CUDA_VISIBLE_DEVICES or, if that
    is not set, of NVML. On a machine without a GPU, nothing is claimed. `locks` is a folder that all training
    runs of this machine must share.

    Raises NoGpuFree if other training runs hold the GPUs, GpuLost if the driver fails, and DeviceNotAvailable
    for a number that none of the GPUs has.
    """
    if not names_gpus(device):
        yield device
        return
    wanted = normalize_device(device)
    gpus = list_visible_gpus()
    if not gpus:
        yield device  # choose_device takes the CPU, or refuses the device
        return
    with ExitStack() as stack:
        taken = _claim_any(gpus, locks, stack) if wanted == "auto" else _claim(wanted, gpus, locks, stack)
        stack.enter_context(_set_environment(VISIBLE, ",".join(gpu.uuid for gpu in taken)))
        log.info("Training on %s.", ", ".join(f"{gpu.name} ({gpu.uuid})" for gpu in taken))
        yield ",".join(map(str, range(len(taken))))


@contextmanager
def wait_for_gpus(
    device: str | None, locks: Path, seconds: float, pause: float = 5.0
) -> Iterator[str | None]:
    """Claim GPUs as `claim_gpus` does, but wait up to `seconds` for them, and log the reason every minute."""
    deadline, logged_at = time.monotonic() + seconds, -math.inf
    with ExitStack() as stack:
        while True:
            try:
                claimed = stack.enter_context(claim_gpus(device, locks))
                break
            except NoGpuFree as error:
                now = time.monotonic()
                if now >= deadline:
                    raise
                if now - logged_at >= _LOG_SECONDS:
                    log.info("%s.", error)
                    logged_at = now
            time.sleep(pause)
        yield claimed


def _claim_any(gpus: Sequence[Gpu], locks: Path, stack: ExitStack) -> list[Gpu]:
    for gpu in gpus:
        if _lock(gpu, locks, stack):
            return [gpu]
    names = ", ".join(gpu.uuid for gpu in gpus)
    raise NoGpuFree(
        f"No GPU is free: other training runs are using {names}. This one starts when one of them ends. To "
        "avoid this wait, start the worker with a --concurrency of at most its number of GPUs"
    )


def _claim(wanted: str, gpus: Sequence[Gpu], locks: Path, stack: ExitStack) -> list[Gpu]:
    numbers = require_numbers(wanted, gpus)
    for number in numbers:
        if not _lock(gpus[number], locks, stack):
            raise NoGpuFree(
                f"device={wanted}: another training run is using GPU {number} of this machine. This one "
                "starts when the other ends; use auto to take any free GPU"
            )
    return [gpus[number] for number in numbers]


def _lock(gpu: Gpu, locks: Path, stack: ExitStack) -> bool:
    """Lock the GPU if it is free; return whether it was.

    The lock is held until `stack` closes or this process ends. Child processes do not keep it.
    """
    make_trusted_folder(locks)
    descriptor = os.open(locks / f"{gpu.uuid}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not try_lock(descriptor):
        os.close(descriptor)
        return False
    held = _LockDescriptor(descriptor)
    stack.callback(held.close)
    return True


class _LockDescriptor:
    """The descriptor of a lock. Forked children close it, or they would keep the lock of a dead parent."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        os.register_at_fork(after_in_child=self.close)

    def close(self) -> None:
        """Close the descriptor; do nothing if it is already closed."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None


@contextmanager
def _set_environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
