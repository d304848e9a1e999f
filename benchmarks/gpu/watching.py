"""Query GPUs through NVML, which does not initialise CUDA."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self


@contextmanager
def nvml() -> Iterator[Any]:
    """Open the NVML bindings. Raises NVMLError without a driver."""
    import pynvml

    pynvml.nvmlInit()
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def count_gpus() -> int:
    """Return the number of GPUs in this machine; 0 without a driver."""
    return int(_ask("nvmlDeviceGetCount") or 0)


def driver_version() -> str | None:
    """Return the version of NVIDIA's driver; None without one."""
    version: str | None = _ask("nvmlSystemGetDriverVersion")
    return version


def _ask(function: str) -> Any:
    """Call a function of NVML without arguments; return None without a driver."""
    import pynvml

    try:
        with nvml() as library:
            return getattr(library, function)()
    except pynvml.NVMLError:
        return None


def used_memory(gpu: int) -> int:
    """Return how much of the GPU's memory is in use, in bytes."""
    with nvml() as library:
        return int(library.nvmlDeviceGetMemoryInfo(library.nvmlDeviceGetHandleByIndex(gpu)).used)


class Utilisation:
    """Samples the GPU's utilisation through NVML ten times a second. With gpu=None it samples nothing."""

    def __init__(self, gpu: int | None) -> None:
        self._gpu = gpu
        self._samples: dict[str, list[int]] = {}
        self._owner: str | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        if self._gpu is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._gpu is not None:
            self._thread.join()

    def attribute_to(self, owner: str | None) -> None:
        """Attribute the following samples to `owner`, or to nobody."""
        self._owner = owner

    def mean(self, owner: str) -> float | None:
        """Return the mean utilisation during the turns of `owner` in per cent, or None without samples."""
        samples = self._samples.get(owner)
        return sum(samples) / len(samples) if samples else None

    def _watch(self) -> None:
        with nvml() as library:
            handle = library.nvmlDeviceGetHandleByIndex(self._gpu)
            while not self._ended.wait(0.1):
                busy = library.nvmlDeviceGetUtilizationRates(handle).gpu
                if (owner := self._owner) is not None:
                    self._samples.setdefault(owner, []).append(busy)
