"""The numeric profile of a training run: what determines its exact bits, besides arguments and data."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

NumericProfile = Mapping[str, str | int]

_LIBRARIES = (
    "torch",
    "torchvision",
    "ultralytics",
    "ultralytics-opencv-headless",
    "opencv-python",
    "opencv-python-headless",
    "numpy",
    "pillow",
    "albumentations",
)

_KEPT_LATER = ("cpu", "instructions", "opencv", "model")
"""Names that some states of version 0.1.0 lack."""


def read_numeric_profile(device: torch.device) -> dict[str, str | int]:
    """Return the versions of numeric libraries, the device, the CPU, and the number of CPU threads.

    Even if a GPU trains the model, the CPU decodes and augments images, and OpenCV and NumPy choose code that
    fits the CPU's instruction set. Two machines with the same profile compute bit-identical results; on a
    GPU, only with `deterministic=True`.
    """
    import torch

    profile: dict[str, str | int] = {name: found for name in _LIBRARIES if (found := _find_version(name))}
    if device.type == "cuda":
        profile |= {
            "device": torch.cuda.get_device_name(device),
            "cuda": str(torch.version.cuda),
            "cudnn": int(torch.backends.cudnn.version() or 0),  # type: ignore[no-untyped-call]
            "cpu": _read_cpu_model(),
        }
    elif device.type == "cpu":
        profile["device"] = _read_cpu_model()
    else:
        profile["device"] = f"{device.type} {platform.processor()}"
    return profile | {
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "opencv": _identify_opencv(),
        "threads": torch.get_num_threads(),
    }


def list_differences(before: NumericProfile, now: NumericProfile) -> list[str]:
    """List the differences, such as "torch 2.14.0 instead of 2.15.0".

    Names that earlier versions of this project did not store in a state are not compared.
    """
    compared = [name for name in dict.fromkeys([*before, *now]) if name in before or name not in _KEPT_LATER]
    names = [name for name in compared if before.get(name) != now.get(name)]
    return [f"{name} {now.get(name, 'none')} instead of {before.get(name, 'none')}" for name in names]


def _find_version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _identify_opencv() -> str:
    """Identify the build of OpenCV, and the instructions that it uses on this CPU."""
    import cv2

    build = blake2b(cv2.getBuildInformation().encode(), digest_size=4).hexdigest()
    return f"{build} {cv2.getCPUFeaturesLine()}"


def _read_cpu_model() -> str:
    """Return the model of the CPU from Linux's /proc/cpuinfo, or on other systems from Python."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
