"""The architectures that Ultralytics ships, told from their names without Ultralytics."""

from __future__ import annotations

import json
import re
from difflib import get_close_matches
from functools import cache

from include.training.arguments import TABLE

_SIZES = "nslmx"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")


@cache
def shipped_architectures() -> frozenset[str]:
    """Names of the model YAMLs of the pinned version, without sizes: yolo11-seg, not yolo11n-seg."""
    return frozenset(json.loads(TABLE.read_text(encoding="utf-8"))["architectures"])


def is_architecture(model: str) -> bool:
    """Tell whether `model` is the name of a shipped architecture, as yolo11n-seg or yolo11n-seg.yaml."""
    return bool(_NAME.match(model)) and not shipped_architectures().isdisjoint(_names(model))


def file_names(model: str) -> list[str]:
    """Return the names under which Ultralytics looks for the YAML, in the working directory first."""
    return [f"{name}.yaml" for name in _names(model)]


def similar_architecture(model: str) -> str | None:
    """Return the architecture that was most likely meant, in the size that was asked for."""
    name = model.strip().lower()
    if is_architecture(name):
        return name
    sized = (
        re.sub(r"\d+(?![\d.])", rf"\g<0>{size}", shipped, count=1)
        for shipped in sorted(shipped_architectures())
        for size in _SIZES
    )
    return next(iter(get_close_matches(name, filter(is_architecture, sized), n=1)), None)


def _names(model: str) -> list[str]:
    """The name itself, and without its size, as `yaml_model_load` of ultralytics/nn/tasks.py has it."""
    name = re.sub(r"\.ya?ml\Z", "", model)
    if re.fullmatch(rf"yolov[58][{_SIZES}]6", name):
        name = f"{name[:-1]}-p6"
    return [name, re.sub(rf"(\d+)([{_SIZES}])(.+)?\Z", r"\1\3", name)]
