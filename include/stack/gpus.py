"""How many trainings this machine can run at once."""

from __future__ import annotations

import os

from include.training.contract import GpuLost
from include.training.gpus import VISIBLE, list_gpus, visible_gpus


def count_gpus() -> int:
    """Return the number of GPUs that CUDA_VISIBLE_DEVICES leaves; 0 also where the driver does not answer."""
    try:
        return len(visible_gpus(list_gpus(), os.environ.get(VISIBLE)))
    except GpuLost:
        return 0


def gpu_slots() -> int:
    """Return the slots of the pool `gpu`: one a GPU, and one for the CPU of a machine without."""
    return max(1, count_gpus())
