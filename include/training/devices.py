"""Choosing and checking the device of a training run, before anything is loaded."""

from __future__ import annotations

import logging
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from include.refusals import FieldError
from include.training.contract import DeviceNotAvailable, GpuLost
from include.training.gpus import normalize_device, parse_numbers, should_have_gpu

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from include.training.resumable import ResumableMixin

log = logging.getLogger(__name__)

_DEFAULT_BATCH = 16
_SINGLE_GPU_ONLY = {  # the job's parameter that contains the argument, and why it is refused
    "rect": ("overrides", "the images of a batch would have different shapes"),
    # Ultralytics lets each GPU compute the number of epochs, and so the learning rates, from its own clock.
    "time": ("time", "they would not agree on when to stop"),
}

_ON_DEVICE = ("model", "ema", "optimizer", "scheduler", "scaler", "validator", "loss", "loss_items", "tloss")
"""Attributes of a trainer that occupy memory on its device."""


def count_devices(device: str | None) -> int:
    """Return how many devices `device` names: "0,1" names two; None and "auto" mean one."""
    return len((device or "auto").split(","))


def check_multi_gpu(gpus: int, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that do not work with several GPUs. Raises FieldError.

    If an argument is missing or None, Ultralytics' default applies.
    """
    if gpus <= 1:
        return
    batch = arguments.get("batch") or _DEFAULT_BATCH
    if batch < 1 or batch % gpus:
        raise FieldError(
            f"batch={batch:g} cannot be shared by {gpus} GPUs; use a multiple of {gpus}, such as {8 * gpus}"
        ).about("batch")
    for name, (parameter, reason) in _SINGLE_GPU_ONLY.items():
        if arguments.get(name):
            raise FieldError(
                f"{name}={arguments[name]} does not work with {gpus} GPUs: {reason}; omit it, or give one GPU"
            ).about(parameter)


def choose_device(requested: str | None) -> str:
    """Return Ultralytics' name for the device `requested`: "cpu", "mps", a GPU's number, or several: "0,1".

    None and "auto" select the first GPU or, if there is none, the CPU with a warning. Raises
    DeviceNotAvailable for a device that this machine does not have, and GpuLost if the machine has a GPU that
    torch cannot use.
    """
    import torch

    name = normalize_device(requested)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    # torch.version.cuda is None if torch was not built to use GPUs.
    if not gpus and name not in {"cpu", "mps"} and torch.version.cuda is not None and should_have_gpu():
        raise GpuLost(
            f"device={requested or 'auto'}: this machine has an NVIDIA GPU, but torch cannot use it. Its "
            "driver does not respond or is too old: see nvidia-smi. Give device=cpu to train on the CPU"
        )
    if name == "auto":
        if not gpus:
            log.warning("No GPU on this machine: training on the CPU, which is many times slower.")
        return "0" if gpus else "cpu"
    if name == "cpu" or (name == "mps" and torch.backends.mps.is_available()):
        return name
    if numbers := parse_numbers(name, gpus):
        return ",".join(map(str, numbers))
    raise DeviceNotAvailable(f"device={requested} is not available: {_suggest_device(gpus)}")


def _suggest_device(gpus: int) -> str:
    if not gpus:
        return (
            "this machine has no GPU that torch can use; use device=cpu (slow) or auto, or use a GPU machine"
        )
    if gpus == 1:
        return "this machine has 1 GPU, numbered 0; give 0, cpu or auto"
    return (
        f"this machine has {gpus} GPUs, numbered 0 to {gpus - 1}; give one of these numbers, several "
        "different ones separated by commas, cpu or auto"
    )


def describe_device(device: torch.device) -> str:
    """Return the name of `device` with its model, such as "cpu" or "cuda:0 (NVIDIA H200)"."""
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def free_device(trainer: ResumableMixin, error: BaseException) -> None:
    """Free the trainer's memory now: uploads may take long, and the next attempt needs the memory.

    The stack frames of the error are cleared, because they hold the batch and the loss.
    """
    raised: BaseException | None = error
    while raised is not None:
        traceback.clear_frames(raised.__traceback__)
        raised = raised.__cause__ or raised.__context__
    for name in _ON_DEVICE:
        setattr(trainer, name, None)
    with suppress(RuntimeError):  # a GPU that has failed reports its error again
        trainer._clear_memory()
