"""What NVML says of the GPUs, asked without initialising CUDA."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self


@contextmanager
def nvml() -> Iterator[Any]:
    """Open the bindings of NVML. Raises NVMLError where there is no driver."""
    import pynvml

    pynvml.nvmlInit()
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def count_gpus() -> int:
    """How many GPUs this machine has; 0 without a driver."""
    import pynvml

    try:
        with nvml() as library:
            return int(library.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return 0


def driver_version() -> str | None:
    """Of NVIDIA; None without one."""
    import pynvml

    try:
        with nvml() as library:
            return str(library.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None


def used_memory(gpu: int) -> int:
    """Bytes of the GPU's memory that processes hold."""
    with nvml() as library:
        return int(library.nvmlDeviceGetMemoryInfo(library.nvmlDeviceGetHandleByIndex(gpu)).used)


class Utilisation:
    """Samples the GPU's utilisation through NVML ten times a second; None without a GPU."""

    def __init__(self, gpu: int | None) -> None:
        self._gpu = gpu
        self._samples: dict[str, list[int]] = {}
        self._whose: str | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        if self._gpu is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._gpu is not None:
            self._thread.join()

    def attribute_to(self, whose: str | None) -> None:
        """From now on the samples are of this one, or of nobody."""
        self._whose = whose

    def mean(self, whose: str) -> float | None:
        """In per cent."""
        samples = self._samples.get(whose)
        return sum(samples) / len(samples) if samples else None

    def _watch(self) -> None:
        with nvml() as library:
            handle = library.nvmlDeviceGetHandleByIndex(self._gpu)
            while not self._over.wait(0.1):
                busy = library.nvmlDeviceGetUtilizationRates(handle).gpu
                if (whose := self._whose) is not None:
                    self._samples.setdefault(whose, []).append(busy)
