"""Counts the training runs that this machine can run at the same time."""

from __future__ import annotations

from functools import cache

from include.training.contract import GpuLost
from include.training.gpus import list_visible_gpus, should_have_gpu


def count_gpus() -> int:
    """Return the number of GPUs that CUDA_VISIBLE_DEVICES allows; 0 if the driver does not respond."""
    try:
        return _count_visible_gpus()
    except GpuLost:
        return 0


@cache
def _count_visible_gpus() -> int:
    """Count the GPUs once.

    The supervisor needs the number every second, and must not stop working if the driver hangs one day.
    """
    return len(list_visible_gpus())


def trains_on_cpu() -> bool:
    """Return whether training runs should use the CPU; False if the machine has a GPU, even a broken one."""
    return not count_gpus() and not should_have_gpu()


def count_gpu_slots() -> int:
    """Return the number of slots of the pool `gpu`: one per GPU, or one for the CPU if there is no GPU."""
    return max(1, count_gpus())
