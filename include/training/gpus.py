"""Claims GPUs for a training run: each one is locked until it is released or this process ends.

GPUs are listed by NVML, without CUDA: CUDA reads CUDA_VISIBLE_DEVICES only when it is initialised, so GPUs
must be claimed before that. The variable lists UUIDs, because a UUID always means the same GPU.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from include.training.contract import DeviceNotAvailable, GpuLost, NoGpuFree
from include.trusted_folders import make_trusted_folder

log = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"

_LOG_SECONDS = 60.0

_NUMBERS = re.compile(r"cuda|(cuda:)?\d+(,\d+)*")


@dataclass(frozen=True)
class Gpu:
    """A GPU, or a part of one (MIG)."""

    uuid: str
    """NVML's UUID, such as "GPU-5f0c…"; that of a part begins with "MIG-"."""
    name: str
    """Product name, such as "NVIDIA H200"."""


@dataclass(frozen=True)
class Hardware:
    """The hardware of a training run, in words."""

    machine: str
    """Host name."""
    gpu: str
    """Such as "NVIDIA H200", "2x NVIDIA H200", "Apple GPU" or "CPU"."""
    driver: str | None
    """Version of the NVIDIA driver; None without an NVIDIA GPU."""


def describe_hardware(device: str | None) -> Hardware:
    """Describe this machine and the device on it that `claim_gpus` yielded."""
    machine = socket.gethostname()
    gpus = visible_gpus(list_gpus(), os.environ.get(VISIBLE)) if _names_gpus(device) else []
    if not gpus:
        return Hardware(machine, "Apple GPU" if device == "mps" else "CPU", None)
    names = Counter(gpu.name for gpu in gpus)
    gpu = ", ".join(name if number == 1 else f"{number}x {name}" for name, number in names.items())
    return Hardware(machine, gpu, _driver())


def require_hardware(device: str | None, *, cpu_worker: bool) -> None:
    """Refuse a device that this machine lacks, and this machine's CPU unless the CPU was requested.

    `device` is the job's, or the one that `claim_gpus` yielded. Unless `cpu_worker` is set, a job may train
    on the CPU only if its device is cpu. Raises GpuLost, even with `cpu_worker`, if this machine has a GPU
    that its driver does not report, and DeviceNotAvailable for every other refusal.
    """
    if not _names_gpus(device):
        return
    if visible := visible_gpus(list_gpus(), os.environ.get(VISIBLE)):
        _read_numbers(normalize_device(device), visible)
        return
    is_auto, machine = device in {None, "auto"}, socket.gethostname()
    setting = f"device={device or 'auto'}"
    if should_have_gpu():
        raise GpuLost(
            f"{setting}: {machine} has an NVIDIA GPU that its driver does not report: run nvidia-smi to see "
            "why. To train on the CPU, give device=cpu, or hide the GPU with CUDA_VISIBLE_DEVICES=-1"
        )
    if is_auto and cpu_worker:
        return
    only_cpu = ", and its CPU, which is many times slower, was not requested" if is_auto else ""
    raise DeviceNotAvailable(
        f"{setting} is not available: {machine} has no GPU{only_cpu}. Give device=cpu, or let a worker with "
        "a GPU run this job; a worker that is meant to train on its CPU needs CPU_WORKER=true"
    )


@contextmanager
def claim_gpus(device: str | None, locks: Path) -> Iterator[str | None]:
    """Claim the GPUs that `device` asks for, hide all others from CUDA, and yield Ultralytics' `device`.

    None and auto take one free GPU; numbers count the GPUs in the order of CUDA_VISIBLE_DEVICES or, if that
    is not set, of NVML. On a machine without a GPU, nothing is claimed. `locks` is a folder that all training
    runs of this machine must share.

    Raises NoGpuFree if other training runs hold the GPUs, GpuLost if the driver fails, and DeviceNotAvailable
    for a number that none of the GPUs has.
    """
    if not _names_gpus(device):
        yield device
        return
    wanted = normalize_device(device)
    gpus = visible_gpus(list_gpus(), os.environ.get(VISIBLE))
    if not gpus:
        yield device  # choose_device decides what to do about it
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


def visible_gpus(gpus: Sequence[Gpu], variable: str | None) -> list[Gpu]:
    """Return the GPUs in CUDA_VISIBLE_DEVICES, in its order, up to the first invalid or repeated entry."""
    if variable is None:
        return list(gpus)
    visible: list[Gpu] = []
    for entry in map(str.strip, variable.split(",")):
        found = _find(entry, gpus)
        if found is None or found in visible:
            break
        visible.append(found)
    return visible


def list_gpus() -> list[Gpu]:
    """List the GPUs that the driver reports; a divided GPU (MIG) is replaced by its parts.

    Returns an empty list if NVML cannot be initialised. Raises GpuLost if the driver fails later.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
        return [_describe(part) for handle in handles for part in _mig_devices(handle) or [handle]]
    except pynvml.NVMLError as error:
        raise GpuLost(f"The driver cannot list this machine's GPUs: {error}") from error
    finally:
        pynvml.nvmlShutdown()


def has_hardware(devices: Path = Path("/dev")) -> bool:
    """Return whether this machine has an NVIDIA GPU, even one whose driver does not respond."""
    return any(devices.glob("nvidia[0-9]*"))


def should_have_gpu() -> bool:
    """Return whether this machine has an NVIDIA GPU that is not hidden on purpose."""
    return has_hardware() and os.environ.get(VISIBLE, "0").strip() not in {"", "-1"}


def normalize_device(device: str | None) -> str:
    """Return `device` without spaces, in lower case; auto if it is not given."""
    return (device or "auto").strip().lower()


def parse_numbers(device: str, gpus: int) -> list[int]:
    """Return the numbers that a normalized device names; none unless all are different and below `gpus`."""
    if not _NUMBERS.fullmatch(device):
        return []
    numbers = [int(number) for number in re.findall(r"\d+", device)] or [0]
    return numbers if len(set(numbers)) == len(numbers) and max(numbers) < gpus else []


def _names_gpus(device: str | None) -> bool:
    wanted = normalize_device(device)
    return wanted == "auto" or _NUMBERS.fullmatch(wanted) is not None


def _driver() -> str | None:
    import pynvml

    try:
        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _find(entry: str, gpus: Sequence[Gpu]) -> Gpu | None:
    if entry.isdecimal():
        return gpus[int(entry)] if int(entry) < len(gpus) else None
    matching = [gpu for gpu in gpus if entry and gpu.uuid.startswith(entry)]
    return matching[0] if len(matching) == 1 else None


def _claim_any(gpus: Sequence[Gpu], locks: Path, stack: ExitStack) -> list[Gpu]:
    for gpu in gpus:
        if _lock(gpu, locks, stack):
            return [gpu]
    names = ", ".join(gpu.uuid for gpu in gpus)
    raise NoGpuFree(
        f"No GPU is free: other training runs are using {names}. This one starts when one of them ends. To "
        "avoid this wait, start the worker with a --concurrency of at most its number of GPUs"
    )


def _read_numbers(wanted: str, gpus: Sequence[Gpu]) -> list[int]:
    """Return the GPU numbers in `wanted`; none for auto. Raises DeviceNotAvailable unless all exist."""
    if wanted == "auto":
        return []
    numbers = parse_numbers(wanted, len(gpus))
    if not numbers:
        raise DeviceNotAvailable(
            f"device={wanted} is not available: this machine's GPUs are numbered 0 to {len(gpus) - 1}; give "
            "one of these numbers, several different ones separated by commas, or auto"
        )
    return numbers


def _claim(wanted: str, gpus: Sequence[Gpu], locks: Path, stack: ExitStack) -> list[Gpu]:
    numbers = _read_numbers(wanted, gpus)
    for number in numbers:
        if not _lock(gpus[number], locks, stack):
            raise NoGpuFree(
                f"device={wanted}: another training run is using GPU {number} of this machine. This one "
                "starts when the other ends; use auto to take any free GPU"
            )
    return [gpus[number] for number in numbers]


def _lock(gpu: Gpu, locks: Path, stack: ExitStack) -> bool:
    """Try to lock the GPU until `stack` closes or this process ends; child processes do not keep the lock."""
    make_trusted_folder(locks)
    descriptor = os.open(locks / f"{gpu.uuid}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
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


def _mig_devices(handle: Any) -> list[Any]:
    """Return the MIG devices of a GPU; none if the GPU is not divided."""
    import pynvml

    parts = []
    with suppress(pynvml.NVMLError):
        for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            with suppress(pynvml.NVMLError_NotFound):
                parts.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number))
    return parts


def _describe(handle: Any) -> Gpu:
    import pynvml

    return Gpu(str(pynvml.nvmlDeviceGetUUID(handle)), str(pynvml.nvmlDeviceGetName(handle)))


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
