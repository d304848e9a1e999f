"""The GPUs of this machine: which ones there are, and whether a training run may use them.

NVML lists the GPUs, because CUDA must not be initialised before the training run has claimed its GPUs (see
gpu_claims.py).
"""

from __future__ import annotations

import os
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from include.training.contract import DeviceNotAvailable, GpuLost

T = TypeVar("T")

VISIBLE = "CUDA_VISIBLE_DEVICES"

_NUMBERS = re.compile(r"cuda|(cuda:)?\d+(,\d+)*")

_DRIVER_SECONDS = 120.0
"""How long the driver may take to respond. Without persistence mode, it first starts each GPU, which takes
seconds."""


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
    """Such as "NVIDIA H200", "2x NVIDIA H200" or "CPU"."""
    driver: str | None
    """Version of the NVIDIA driver; None without an NVIDIA GPU."""


def describe_hardware(device: str | None) -> Hardware:
    """Describe this machine and the device on it that `claim_gpus` yielded."""
    machine = socket.gethostname()
    gpus = list_visible_gpus() if names_gpus(device) else []
    if not gpus:
        return Hardware(machine, "CPU", None)
    names = Counter(gpu.name for gpu in gpus)
    gpu = ", ".join(name if number == 1 else f"{number}x {name}" for name, number in names.items())
    return Hardware(machine, gpu, _await_driver(_query_version))


def require_hardware(device: str | None, *, cpu_worker: bool) -> None:
    """Refuse a device that this machine lacks, and this machine's CPU unless the CPU was requested.

    `device` is the job's, or the one that `claim_gpus` yielded. A job may train on the CPU if its device is
    cpu, or if its device is auto and `cpu_worker` is set. Raises GpuLost, even with `cpu_worker`, if this
    machine has a GPU that its driver does not report. Raises DeviceNotAvailable for every other refusal.
    """
    if not names_gpus(device):
        return
    if visible := list_visible_gpus():
        require_numbers(normalize_device(device), visible)
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


def list_visible_gpus() -> list[Gpu]:
    """List the GPUs of this machine that CUDA_VISIBLE_DEVICES does not hide. Raises GpuLost."""
    return visible_gpus(list_gpus(), os.environ.get(VISIBLE))


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

    Returns an empty list if NVML cannot be initialised. Raises GpuLost if the driver fails later, or does not
    respond.
    """
    return _await_driver(_query_gpus)


def _query_gpus() -> list[Gpu]:
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


def require_numbers(wanted: str, gpus: Sequence[Gpu]) -> list[int]:
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


def names_gpus(device: str | None) -> bool:
    """Return whether `device` asks for a GPU, by its number or with auto."""
    wanted = normalize_device(device)
    return wanted == "auto" or _NUMBERS.fullmatch(wanted) is not None


def _await_driver(query: Callable[[], T]) -> T:
    """Return the result of query(), which may never return if the driver hangs. Raises GpuLost."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(query())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, name="driver", daemon=True).start()
    try:
        return answer.result(_DRIVER_SECONDS)
    except TimeoutError:
        raise GpuLost(
            f"The driver of this machine's GPUs has not responded for {_DRIVER_SECONDS:.0f} s: see "
            "nvidia-smi and, for Xid errors, the kernel's log"
        ) from None


def _query_version() -> str | None:
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
