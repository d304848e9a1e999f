"""The device a training runs on: checked before anything is loaded."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from include.training.contract import DeviceNotAvailable

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


def choose_device(requested: str | None) -> str:
    """Return Ultralytics' word for the device `requested`: "cpu", "mps" or a GPU's number.

    None and "auto" take the first GPU, or the CPU with a warning. Raises DeviceNotAvailable for what this
    machine does not have.
    """
    import torch

    name = (requested or "auto").strip().lower()
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        if not gpus:
            log.warning("No GPU on this machine: training on the CPU, which is many times slower.")
        return "0" if gpus else "cpu"
    if name == "cpu":
        return name
    if name == "mps" and torch.backends.mps.is_available():
        return name
    if number := re.fullmatch(r"cuda|(?:cuda:)?(\d+)", name):
        index = int(number[1] or 0)
        if index < gpus:
            return str(index)
    raise DeviceNotAvailable(f"device={requested} is not available: {_remedy(name, gpus)}")


def _remedy(name: str, gpus: int) -> str:
    if re.fullmatch(r"(cuda:)?\d+(,(cuda:)?\d+)+", name):
        return "a training runs on one GPU; give one number, such as device=0"
    if not gpus:
        return (
            "this machine has no GPU that torch can use; give device=cpu (slow) or auto, or use a GPU machine"
        )
    numbers = "0" if gpus == 1 else f"0 to {gpus - 1}"
    return f"this machine has {gpus} GPU(s), numbered {numbers}; give one of these numbers, cpu or auto"


def describe_device(device: torch.device) -> str:
    """Name `device` with its model, such as "cpu" or "cuda:0 (NVIDIA H200)"."""
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
