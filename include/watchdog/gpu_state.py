"""Print what the driver reports about this machine's GPUs: `python -m include.watchdog.gpu_state`.

It is a separate program because a driver that hangs blocks the process that queries it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from typing import Any

from include.child_processes import add_project_to_path

_SECONDS = 15.0


def describe_gpus() -> list[str]:
    """Return one line per GPU; no lines without an NVIDIA driver; a single line if the driver hangs.

    The driver is queried in another process, for at most _SECONDS.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        env=add_project_to_path(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )
    try:
        output, _ = process.communicate(timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()  # without waiting: inside a hanging driver, even SIGKILL has no effect
        return [f"GPU: the driver has not responded for {_SECONDS:.0f} s"]
    return output.splitlines()


def main() -> None:
    """Print a line for each GPU."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return
    for number in range(pynvml.nvmlDeviceGetCount()):
        try:
            line = _describe_gpu(pynvml, pynvml.nvmlDeviceGetHandleByIndex(number))
        except pynvml.NVMLError as error:
            line = f"the driver reports an error: {error}"
        sys.stdout.write(f"GPU {number}: {line}\n")


def _describe_gpu(nvml: Any, gpu: Any) -> str:
    memory, busy = nvml.nvmlDeviceGetMemoryInfo(gpu), nvml.nvmlDeviceGetUtilizationRates(gpu)
    processes = ", ".join(str(process.pid) for process in nvml.nvmlDeviceGetComputeRunningProcesses(gpu))
    parts = [
        f"{nvml.nvmlDeviceGetName(gpu)} ({nvml.nvmlDeviceGetUUID(gpu)})",
        f"{memory.used / 2**30:.1f} of {memory.total / 2**30:.1f} GiB used",
        f"{busy.gpu} % busy",
        f"{nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)} °C",
        f"processes {processes or 'none'}",
    ]
    with suppress(nvml.NVMLError):  # a GPU without ECC
        errors = nvml.nvmlDeviceGetTotalEccErrors(
            gpu, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
        )
        parts.append(f"{errors} uncorrected ECC errors since the driver was loaded")
    return ", ".join(parts)


if __name__ == "__main__":
    main()
