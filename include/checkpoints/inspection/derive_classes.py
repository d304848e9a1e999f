"""Derive classes.json from the installed packages: `python -m include.checkpoints.inspection.derive_classes`.

Run this again when the pinned PyTorch or Ultralytics changes; a test compares the file with the installed
packages.
"""

from __future__ import annotations

import inspect
import json
import pkgutil
from importlib import import_module
from types import ModuleType
from typing import Any

from include.checkpoints.inspection.classes import DISTILLED, FEATURE_HOOK, TABLE

_NOT = {"TorchVision"}
"""A layer that loads a model of torchvision, whose classes a checkpoint must not contain."""

_NOT_MODULES = {"torch.nn.modules.rnn"}
"""Recurrent layers, whose code recomputes attributes while they are loaded. No YOLO model has them."""

_KEPT_METHODS = {"forward", "type"}
"""Methods of a layer that Ultralytics' files may override with an attribute."""

_TRANSFORMS = ("CenterCrop", "Compose", "Normalize", "Resize", "ToTensor")
"""Image transforms of a classifier, which are kept in its checkpoint."""


def derive() -> dict[str, Any]:
    """Return the content of classes.json: the classes of each module."""
    import torch
    import ultralytics

    packages = ("torch.nn.modules", "ultralytics.nn.modules")
    names = [each.name for name in packages for each in _list_submodules(import_module(name))]
    modules = {
        name: _list_classes(import_module(name), torch.nn.Module) for name in [*names, "ultralytics.nn.tasks"]
    }
    distilled, _, model = DISTILLED.rpartition(".")
    _, _, hook = FEATURE_HOOK.rpartition(".")
    methods = {each for each in dir(torch.nn.Module) if not each.startswith("__")} - _KEPT_METHODS
    others = {
        name: _list_classes(import_module(name), object)
        for name in ("ultralytics.utils.loss", "ultralytics.utils.tal")
    }
    return {
        "torch": torch.__version__.partition("+")[0],
        "ultralytics": ultralytics.__version__,
        "modules": {**{name: found for name, found in modules.items() if found}, distilled: [model]},
        "methods": sorted(each for each in methods if callable(getattr(torch.nn.Module, each))),
        "others": {**others, distilled: [hook], "torchvision.transforms.transforms": list(_TRANSFORMS)},
    }


def _list_submodules(package: ModuleType) -> list[pkgutil.ModuleInfo]:
    found = pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    return [each for each in found if each.name not in _NOT_MODULES]


def _list_classes(module: ModuleType, base: type) -> list[str]:
    return sorted(
        name
        for name, found in vars(module).items()
        if inspect.isclass(found)
        and issubclass(found, base)
        and found.__module__ == module.__name__
        and name not in _NOT
    )


if __name__ == "__main__":
    TABLE.write_text(json.dumps(derive(), indent=1) + "\n", encoding="utf-8")
