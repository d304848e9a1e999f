"""The architectures and pretrained weights of the pinned Ultralytics, by name, without importing Ultralytics.

include.training.derive_tables writes architectures.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from include.ultralytics_tasks import Task

TABLE = Path(__file__).with_name("architectures.json")

_SIZES = "nslmx"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")


@dataclass(frozen=True)
class Architecture:
    """A model YAML that Ultralytics ships."""

    name: str
    """Name of the YAML without its suffix and without a size, such as yolo11-seg."""
    task: Task | None
    """None for an architecture that our trainers do not train (RT-DETR, YOLO-World, YOLOE)."""
    sizes: str
    """A letter for each size that a name can specify; empty if the YAML has only one size."""


@cache
def _read_table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(TABLE.read_text(encoding="utf-8"))
    return table


@cache
def read_architectures() -> Mapping[str, Architecture]:
    """Return the architectures by the name of their YAML, without size: yolo11-seg, not yolo11n-seg."""
    return {name: Architecture(name=name, **about) for name, about in _read_table()["architectures"].items()}


def read_published_weights() -> Mapping[str, Task | None]:
    """Return the task of each pretrained file that Ultralytics publishes; None if we cannot train it."""
    weights: dict[str, Task | None] = _read_table()["pretrained"]
    return weights


def find_default_weights(task: Task) -> str:
    """Return the pretrained file from which Ultralytics trains `task` by default."""
    return str(_read_table()["defaults"][task])


def find_default_metric(task: Task) -> str:
    """Return the metric by which Ultralytics compares models of `task`; higher is better."""
    return str(_read_table()["metrics"][task])


def find_default_architecture(task: Task) -> str:
    """Return the architecture of the weights from which Ultralytics trains `task` by default.

    It belongs to a family that has a model for every task; yolo11, for example, has none for `semantic` and
    `depth`.
    """
    return find_default_weights(task).removesuffix(".pt")


def find_release_url() -> str:
    """Return the URL under which Ultralytics publishes the pretrained files of this version."""
    return str(_read_table()["release"])


def read_ultralytics_version() -> str:
    """Return the version of Ultralytics that the table was derived from."""
    return str(_read_table()["ultralytics"])


def find_architecture(model: str) -> Architecture | None:
    """Return the shipped architecture that `model` names, such as yolo11n-seg or yolo11n-seg.yaml."""
    if not _NAME.match(model):
        return None
    shipped = read_architectures()
    whole, (unsized, size) = _normalize_name(model), _split_size(model)
    if whole in shipped:
        return shipped[whole]
    found = shipped.get(unsized)
    return found if found and size in found.sizes else None


def is_architecture(model: str) -> bool:
    """Return whether `model` is the name of a shipped architecture."""
    return find_architecture(model) is not None


def list_file_names(model: str) -> list[str]:
    """Return the names under which Ultralytics looks for the YAML, in the working directory first."""
    return [f"{_normalize_name(model)}.yaml", f"{_split_size(model)[0]}.yaml"]


def suggest_architecture(model: str) -> str | None:
    """Return the trainable architecture with the most similar name, if any, in the requested size."""
    return _find_closest(model.strip().lower(), _list_trainable_names())


def suggest_weights(name: str) -> str | None:
    """Return the published, trainable file with the most similar name, if any."""
    return _find_closest(name, [weights for weights, task in read_published_weights().items() if task])


def _find_closest(name: str, known: list[str]) -> str | None:
    return next(iter(get_close_matches(name, known, n=1)), None)


@cache
def _list_trainable_names() -> list[str]:
    trainable = [each for each in read_architectures().values() if each.task]
    sized = [
        re.sub(r"\d+(?![\d.])", rf"\g<0>{size}", each.name, count=1)
        for each in trainable
        for size in each.sizes
    ]
    return sorted({each.name for each in trainable} | {name for name in sized if is_architecture(name)})


def _normalize_name(model: str) -> str:
    name = re.sub(r"\.ya?ml\Z", "", model)
    return f"{name[:-1]}-p6" if re.fullmatch(rf"yolov[58][{_SIZES}]6", name) else name


def _split_size(model: str) -> tuple[str, str]:
    """Split the size's letter off the name, as `yaml_model_load` of ultralytics/nn/tasks.py does."""
    name = _normalize_name(model)
    found = re.search(rf"(\d+)([{_SIZES}])(.+)?\Z", name)
    return (name[: found.end(1)] + (found[3] or ""), found[2]) if found else (name, "")
