"""Loading checkpoints without running code that may have been pickled into them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import wraps
from importlib import import_module
from inspect import unwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.checkpoints.guard import SideEffect, reading_only
from include.checkpoints.inspection.errors import InspectionError
from include.checkpoints.inspection.inspect import inspect_file
from include.checkpoints.keys import BATCH, EXACT
from include.training.contract import NotResumable, UnreadableCheckpoint
from include.training.environment import isolate_ultralytics
from include.training.library_errors import reports_killed_worker

if TYPE_CHECKING:
    from include.ultralytics_tasks import Task


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load the file at `path` onto the CPU, as the dictionary that Ultralytics saved.

    Only objects that the inspection allows are created: a model, tensors and plain values. The memory that
    these take is limited by the file's size. Raises UnreadableCheckpoint if the file is missing or damaged or
    holds other objects, and OSError if it cannot be read.
    """
    state = _take_handed_over(path)
    if state is not None:
        return state
    state = load_inspected(path)
    if not isinstance(state.get("train_args"), dict):
        raise UnreadableCheckpoint(
            f"{path} does not come from an Ultralytics training run; give a last.pt or best.pt"
        )
    return state


def hand_over(path: Path, state: dict[str, Any], reads: int = 1) -> None:
    """Keep `state`, the content of this file, for the next reads, so that the file is not read again.

    The readers, such as Ultralytics, share `state`; only the last reader may change it. A state is dropped
    once it has been read `reads` times, or when another one is handed over.
    """
    _handed_over.clear()
    _handed_over[_identify_file(path)] = state, reads


def _take_handed_over(path: Path) -> dict[str, Any] | None:
    if not path.is_file() or (found := _handed_over.pop(identity := _identify_file(path), None)) is None:
        return None
    state, reads = found
    if reads > 1:
        _handed_over[identity] = state, reads - 1
    return state


def _identify_file(path: Path) -> tuple[int, ...]:
    """Return numbers that change whenever the file is replaced or written to."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


_handed_over: dict[tuple[int, ...], tuple[dict[str, Any], int]] = {}


def load_inspected(path: Path) -> dict[str, Any]:
    """Load a checkpoint as `load_checkpoint` does, but also one of a model that was never trained."""
    if not path.is_file():  # otherwise Ultralytics would look for the name elsewhere
        raise UnreadableCheckpoint(f"{path} does not exist; give the path of a checkpoint on this machine")
    enforce_safe_loading()
    from ultralytics.nn.tasks import torch_safe_load

    try:
        _preload_modules(inspect_file(path).modules)
        with reading_only():
            state, _ = unwrap(torch_safe_load)(path.absolute(), safe_only=True)
    except InspectionError as error:
        raise _build_error(path, error) from None
    except SideEffect as error:
        raise _build_error(path, error) from error
    except MemoryError as error:
        raise _build_error(path, "needs more memory than this machine has") from error
    except OSError:
        raise
    except Exception as error:  # a damaged file can make the unpickler raise anything
        if reports_killed_worker(error):
            raise
        raise _build_error(
            path, "is damaged, or was saved by a version of PyTorch or Ultralytics that cannot be read here"
        ) from error
    return dict(state)


def _preload_modules(modules: Sequence[str]) -> None:
    """Import the modules that loading needs: an import may write bytecode, which is refused while loading.

    The inspection has approved all of them. A file from an older version may name modules that no longer
    exist, because other modules have replaced them.
    """
    for module in (*modules, "ultralytics.utils.loss"):
        with suppress(ModuleNotFoundError):
            import_module(module)


def enforce_safe_loading() -> None:
    """Make Ultralytics load every file in this process as `load_inspected` does.

    By default Ultralytics loads whole pickles, installs the packages that they name, and evaluates
    architectures as code.
    """
    isolate_ultralytics()
    from ultralytics.nn import tasks

    # Ultralytics also calls torch.load directly, which reads this variable on every call.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    tasks.SAFE_LOAD = True
    if unwrap(tasks.torch_safe_load) is tasks.torch_safe_load:
        tasks.torch_safe_load = wraps(tasks.torch_safe_load)(_load_for_ultralytics)


def _load_for_ultralytics(weight: str | Path, safe_only: bool | None = None) -> tuple[dict[str, Any], str]:
    from ultralytics.utils.downloads import attempt_download_asset

    file = attempt_download_asset(weight)  # also searches Ultralytics' folders, but downloads nothing
    state = _take_handed_over(Path(file))
    return load_inspected(Path(file)) if state is None else state, file


def _build_error(path: Path, why: object) -> UnreadableCheckpoint:
    return UnreadableCheckpoint(
        f"{path} is not a checkpoint that can be loaded safely: it {why}. Nothing in it was run"
    )


def read_task(state: Mapping[str, Any]) -> str:
    """Return the task that a checkpoint says it was trained for; a foreign file may name any."""
    return str(state["train_args"].get("task", "detect"))


def count_batches_into_epoch(state: Mapping[str, Any]) -> int:
    """Return how many batches of an unfinished epoch a state includes; 0 if plain Ultralytics saved it."""
    return int((state.get(EXACT) or {}).get(BATCH, 0))


def load_training_state(path: Path, task: Task | None = None) -> dict[str, Any]:
    """Load a checkpoint that a training run of `task` (of any task, if None) can continue from.

    Raises NotResumable for a stripped file or a file of another task, and UnreadableCheckpoint as
    `load_checkpoint` does.
    """
    state = load_checkpoint(path)
    has_optimizer = bool(state.get("optimizer"))  # its `state` is empty until the first step
    epoch = -1 if state.get("epoch") is None else state["epoch"]
    if not has_optimizer or (epoch < 0 and not count_batches_into_epoch(state)):
        lacks = "has no epoch" if has_optimizer else "holds no optimizer state"
        raise NotResumable(
            f"{path} cannot be resumed: it {lacks}, because it was stripped for deployment; resume from a "
            "last.pt that was not stripped, or start a new training run with this file as its model"
        )
    trained = read_task(state)
    if task is not None and trained != task:
        raise NotResumable(
            f"{path} was trained for task {trained}, but task={task} was requested; give task={trained}"
        )
    return state
