"""Checks the contents of a checkpoint: it may contain only a model made of layers, and plain values.

No object in it can be called, and nothing in it is evaluated. The model's description is checked. Layers may
have no hooks except those of a distillation. Where Ultralytics expects a number, there must be a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from include.checkpoints.inspection.architecture import (
    MAX_CHANNELS,
    MAX_SCALE,
    check_architecture,
    check_names,
)
from include.checkpoints.inspection.classes import (
    ALIASES,
    DISTILLED,
    FEATURE_HOOK,
    MODELS,
    is_module,
    list_methods,
)
from include.checkpoints.inspection.errors import ForeignCode, NotACheckpoint, TooLarge
from include.checkpoints.inspection.symbols import Constant, Instance, Name, OrderedMapping, Tensor
from include.checkpoints.keys import BATCH, EXACT

MAX_DEPTH = 200
MAX_FEATURES = 16
"""Maximum number of layers that a distillation compares; Ultralytics compares the head and its inputs,
usually four."""

MAX_PATHS = 20_000_000
"""Maximum number of paths to objects. An object that several others hold has several paths; an object in a
decompression bomb has very many."""

_TEXTS = ("date", "version", "license", "docs")
_COUNTS = {"epoch": -1, "updates": 0, "best_epoch": -1}
_MOST = 2**53


@dataclass(frozen=True)
class Contents:
    """Description of a checkpoint."""

    task: str
    """Task of the model. For a distilled model, it is whatever the file states, even an unknown task."""
    model: str
    """Name of the YAML from which the model was built."""
    epoch: int | None
    """Last finished epoch, counted from 0; None if there is none, as in a stripped file."""
    resumable: bool
    """Whether training can continue from the file."""
    classes: tuple[str, ...]
    """Names of the model's classes, in the order of their numbers."""
    ultralytics_version: str
    """Version of Ultralytics that saved the file; empty if the file does not say."""
    modules: tuple[str, ...] = ()
    """Python modules of the classes and functions that the file refers to."""


def read_contents(state: Any) -> Contents:
    """Check all of a checkpoint's symbols. Raises ForeignCode, NotACheckpoint, TooLarge."""
    if type(state) is not dict or not all(isinstance(name, str) for name in state):
        raise NotACheckpoint("is not a checkpoint of Ultralytics: it does not hold a dictionary")
    _check_tree(state)
    models = [state[name] for name in ("model", "ema") if state.get(name) is not None]
    if not models:
        raise NotACheckpoint("holds no model; give a last.pt or best.pt")
    for model in models:
        _check_model(model)
    for name, value in state.items():
        if name not in {"model", "ema"}:
            _require_plain(name, value)
    _check_values(state)
    return _describe(state, models[-1])


def _check_tree(state: dict[str, Any]) -> None:
    """Visit every object once; refuse cycles, deep nesting, and more than MAX_PATHS paths."""
    paths: dict[int, int] = {}
    open_: set[int] = set()
    pending: list[tuple[Any, bool]] = [(state, False)]
    while pending:
        value, seen = pending.pop()
        children = _list_children(value)
        if seen:
            open_.discard(id(value))
            paths[id(value)] = total = 1 + sum(paths.get(id(child), 1) for child in children)
            if total > MAX_PATHS:
                raise TooLarge("holds too many paths to nested objects; it was crafted to exhaust memory")
        elif id(value) in open_:
            raise NotACheckpoint("holds an object that contains itself; no checkpoint does")
        elif id(value) not in paths:
            open_.add(id(value))
            if len(open_) > MAX_DEPTH:
                raise TooLarge(f"holds objects nested more than {MAX_DEPTH} levels deep; no checkpoint does")
            if isinstance(value, Instance):
                _check_instance(value)
            pending.append((value, True))
            pending += [(child, False) for child in children if isinstance(child, _CONTAINERS)]


_CONTAINERS = (dict, list, tuple, Instance)


def _list_children(value: Any) -> list[Any]:
    if isinstance(value, Instance):
        return [value.state] if value.state else []
    if isinstance(value, OrderedMapping) and value.metadata is not None:
        return [*value.values(), value.metadata]
    return list(value.values()) if isinstance(value, dict) else list(value)


def _check_instance(instance: Instance) -> None:
    state = instance.state or {}
    if any(_holds_name(value) for value in state.values()):
        raise ForeignCode(
            "holds a class or function where a layer must have a plain value; it may be harmful, so do not "
            "load it"
        )
    if not is_module(instance.path):
        return
    _check_attributes(instance.path, state)
    parts = [state.get(name) for name in ("_parameters", "_buffers", "_modules")]
    values = [list(part.values()) for part in parts if isinstance(part, dict)]
    if len(values) != len(parts):
        raise NotACheckpoint(f"holds an incomplete {instance.path}; it is damaged")
    parameters, buffers, modules = values
    if not all(each is None or isinstance(each, Tensor) for each in [*parameters, *buffers]):
        raise NotACheckpoint(f"holds a {instance.path} whose weights are not tensors; it is damaged")
    if not all(each is None or (isinstance(each, Instance) and is_module(each.path)) for each in modules):
        raise NotACheckpoint(f"holds a {instance.path} whose parts are not layers; it is damaged")
    for name, value in state.items():
        if "_hooks" in name and value and not (name == "_forward_hooks" and _are_features(value)):
            raise ForeignCode(
                "holds a layer with a hook, which runs other code along with the layer; it may be harmful, "
                "so do not load it"
            )


def _holds_name(value: Any) -> bool:
    if isinstance(value, dict):
        return any(isinstance(each, Name) for each in value.values())
    return any(isinstance(each, Name) for each in (value if isinstance(value, (list, tuple)) else [value]))


def _check_attributes(path: str, state: Mapping[str, Any]) -> None:
    """Check the attributes that take effect when a layer is loaded or run."""
    if hidden := list_methods() & state.keys():
        raise ForeignCode(
            f"holds a layer whose {min(hidden)} is replaced; it may be harmful, so do not load it"
        )
    forward = state.get("forward")
    if forward is not None and not (isinstance(forward, Constant) and forward.kind == "method"):
        raise ForeignCode("holds a layer whose forward is replaced; it may be harmful, so do not load it")
    name = path.rpartition(".")[2]
    if name == "AAttn" and not all(
        _is_count(state.get(each), MAX_CHANNELS) for each in ("head_dim", "num_heads")
    ):
        raise TooLarge(f"holds an AAttn whose heads are not numbers up to {MAX_CHANNELS:,}")
    if name.startswith("Upsampl") and not _is_small_scale(state):
        raise TooLarge(f"holds a layer that makes images more than {MAX_SCALE} times as large")
    if path == DISTILLED:
        for each in ("feats_idx", "teacher_feats_idx"):
            layers = state.get(each, [])
            if not isinstance(layers, (list, tuple)) or len(layers) > MAX_FEATURES:
                raise TooLarge(f"holds a distillation of more than {MAX_FEATURES} layers")


def _is_count(value: Any, limit: int) -> bool:
    return type(value) is int and 0 < value <= limit


def _is_small_scale(state: Mapping[str, Any]) -> bool:
    scale = state.get("scale_factor")
    scales = scale if isinstance(scale, (list, tuple)) else [scale]
    numbers = [each for each in scales if each is not None]
    return state.get("size") is None and all(
        type(each) in (int, float) and 0 < each <= MAX_SCALE for each in numbers
    )


def _are_features(hooks: Any) -> bool:
    values = hooks.values() if isinstance(hooks, dict) else [None]
    return all(isinstance(hook, Instance) and hook.path == FEATURE_HOOK for hook in values)


def _check_model(model: Any) -> None:
    if not isinstance(model, Instance) or _find_class(model) not in {*MODELS.values(), DISTILLED}:
        raise NotACheckpoint(f"does not hold a model for any of these tasks: {', '.join(MODELS)}")
    state = model.state or {}
    description = state.get("yaml")
    if not isinstance(description, dict):
        raise NotACheckpoint("holds a model without the description from which it was built")
    check_architecture(description)
    if "names" in state:
        check_names(state["names"])


def _find_class(model: Instance) -> str:
    return ALIASES.get(model.path, model.path)


def _require_plain(name: str, value: Any) -> None:
    """Raise NotACheckpoint if an object is where a plain value belongs; call this after `_check_tree`."""
    pending = [value]
    seen: set[int] = set()
    while pending:
        value = pending.pop()
        if isinstance(value, Instance):
            raise NotACheckpoint(f"holds an object in {name!r:.80}, where a checkpoint has plain values")
        if isinstance(value, _CONTAINERS) and id(value) not in seen:
            seen.add(id(value))
            pending += _list_children(value)


def _check_values(state: Mapping[str, Any]) -> None:
    for name, least in _COUNTS.items():
        value = state.get(name)
        if value is not None and not (type(value) is int and least <= value < _MOST):
            raise NotACheckpoint(f"has a value of {name} that is not a count; it is damaged")
    if not _is_number_or_none(state.get("best_fitness")):
        raise NotACheckpoint("has a best_fitness that is not a number; it is damaged")
    for name in _TEXTS:
        if not isinstance(state.get(name), (str, type(None))):
            raise NotACheckpoint(f"has a value of {name} that is not a string; it is damaged")
    for name in ("optimizer", "scaler", "stopper", "train_args", "train_metrics", "train_results", "exact"):
        value = state.get(name)
        if value is not None and not (
            type(value) is dict and (name == "optimizer" or all(isinstance(key, str) for key in value))
        ):
            raise NotACheckpoint(f"has something other than named values in {name}; it is damaged")
    for name in ("train_metrics", "stopper"):
        if not all(map(_is_number_or_none, (state.get(name) or {}).values())):
            raise NotACheckpoint(f"holds values other than numbers in {name}; it is damaged")
    _check_arguments(state.get("train_args") or {})


def _check_arguments(arguments: Mapping[str, Any]) -> None:
    epochs, task = arguments.get("epochs"), arguments.get("task", "detect")
    if not (epochs is None or (type(epochs) is int and 0 <= epochs < _MOST)) or not isinstance(task, str):
        raise NotACheckpoint("has an invalid task or number of epochs in train_args; it is damaged")


def _is_number_or_none(value: Any) -> bool:
    return (
        value is None
        or isinstance(value, (int, float))
        or (isinstance(value, Constant) and value.kind == "number")
    )


def _count_batches(state: Mapping[str, Any]) -> int:
    """Return how many batches a state of this project includes after its last finished epoch."""
    exact = state.get(EXACT)
    batches = exact.get(BATCH, 0) if isinstance(exact, dict) else 0
    return batches if type(batches) is int else 0


def _list_classes(names: Any) -> tuple[str, ...]:
    """Return class names by number: a model lists them as the YAML of its data did, such as 0, 1, 10, 2."""
    if not isinstance(names, dict):
        return tuple(names)
    are_numbered = all(type(number) is int for number in names)
    return tuple(names[number] for number in (sorted(names) if are_numbered else names))


def _describe(state: Mapping[str, Any], model: Instance) -> Contents:
    attributes = model.state or {}
    names = attributes.get("names") or {}
    epoch = state.get("epoch", -1)
    # The class of a distilled model does not show its task.
    stated = (state.get("train_args") or {}).get("task", "detect")
    task = next((task for task, path in MODELS.items() if path == _find_class(model)), stated)
    return Contents(
        task=task,
        model=PurePath(str(attributes["yaml"].get("yaml_file", ""))).name,
        epoch=epoch if epoch is not None and epoch >= 0 else None,
        resumable=bool(state.get("optimizer"))
        and epoch is not None
        and (epoch >= 0 or _count_batches(state) > 0),
        classes=_list_classes(names),
        ultralytics_version=str(state.get("version") or ""),
    )
