"""What a checkpoint holds, and how it gets to the disk: whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import ultralytics
from ultralytics.utils.torch_utils import qat_state, strip_optimizer, strip_qat, unwrap_model

from include.checkpoints.keys import BEST_EPOCH, EXACT
from include.training.contract import DiskError
from include.training.loading import load_checkpoint
from include.training.sentences import in_one_line

if TYPE_CHECKING:
    from include.training.exact import Exact


def whole_state(trainer: Exact, batches: int = 0) -> dict[str, Any]:
    """Everything a training needs to go on, in Ultralytics' own keys and one of ours.

    With `batches` it is the state after so many of the epoch that has begun, else that at the epoch's end.
    Its tensors are the training's own, but for those of `ema`, a model of half precision.

    Written anew after BaseTrainer.save_model (8.4.190), which leaves no room for more keys, copies the
    optimizer and rounds it. Plain Ultralytics loads and resumes it like its own.
    """
    if not batches:
        _replace_non_finite(trainer)
    network = trainer.ema.ema
    quantized = qat_state(network)
    rounded = deepcopy(network).half().to(memory_format=torch.contiguous_format)
    if hasattr(rounded, "criterion"):
        rounded.criterion = None
    for tensor in rounded.state_dict().values():
        if torch.is_tensor(tensor) and tensor.is_floating_point():
            torch.nan_to_num_(tensor)  # what overflows in half precision
    strip_qat(rounded)
    stopper = trainer.stopper
    return {
        "epoch": trainer.epoch - 1 if batches else trainer.epoch,
        "best_fitness": trainer.best_fitness,
        "stopper": {"best_fitness": stopper.best_fitness, "best_epoch": stopper.best_epoch},
        "model": None,
        "ema": rounded,
        "updates": trainer.ema.updates,
        "modelopt": quantized,
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "train_args": dict(vars(trainer.args)),
        "train_metrics": {**trainer.metrics, "fitness": trainer.fitness},
        "train_results": trainer.read_results_csv(),
        "date": datetime.now(UTC).isoformat(),
        "version": ultralytics.__version__,
        "license": "AGPL-3.0 (https://ultralytics.com/license)",
        "docs": "https://docs.ultralytics.com",
        EXACT: trainer.exact_state(batches),
    }


def has_finite_weights(trainer: Exact) -> bool:
    """Whether the live weights and their average are finite: no state that is not is worth keeping."""
    models = (unwrap_model(trainer.model), trainer.ema.ema)
    return all(are_finite(model.state_dict().values()) for model in models)


def are_finite(weights: Iterable[torch.Tensor]) -> bool:
    """Ask the device once instead of hundreds of times: the sum of finite numbers is finite."""
    floating = [tensor.detach() for tensor in weights if tensor.is_floating_point()]
    return bool(torch.stack([tensor.sum(dtype=torch.float32) for tensor in floating]).isfinite().all())


def _replace_non_finite(trainer: Exact) -> None:
    """Take the live weight where the EMA holds a NaN: one would stay in the average for ever."""
    average = trainer.ema.ema.state_dict()
    if are_finite(average.values()):
        return
    live = unwrap_model(trainer.model).state_dict()
    for name, tensor in average.items():
        if tensor.is_floating_point() and not tensor.isfinite().all() and live[name].isfinite().all():
            tensor.copy_(live[name])


def save(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint, whole or not at all: under a new inode, so that hard links stay as they are."""
    put_in_place(write(state, path), path)


def put_in_place(staged: Path, path: Path) -> None:
    """Give a file that `write` has written its name, so that it has it after a power cut too."""
    staged.replace(path)
    with suppress(OSError):  # a file system that cannot do that for folders
        _sync(path.parent)


def _sync(path: Path) -> None:
    """Wait until the disk has what was written to the file, or the names that a folder holds."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(state: dict[str, Any], path: Path) -> Path:
    """Write a checkpoint beside `path`, whose place it is to take; returns where it is. Raises DiskError."""
    staged = staged_path(path)
    try:
        torch.save(state, staged)
        _sync(staged)  # or a power cut after the renaming could leave an empty file under the name
    except (OSError, RuntimeError) as error:  # torch says nothing of the disk that is full
        written = staged.stat().st_size if staged.exists() else 0
        free = written + (shutil.disk_usage(path.parent).free if path.parent.is_dir() else 0)
        staged.unlink(missing_ok=True)
        raise DiskError(
            f"{path} could not be written ({in_one_line(error)}): it found {free / 1e6:.0f} MB. Make room, "
            "or let the training's folder be on a larger disk; the state before it is whole"
        ) from error
    return staged


def snapshot(source: Path, target: Path) -> None:
    """Make `target` keep what `source` holds now: a hard link, which costs nothing, or else a copy.

    The link stays as it is because nothing here writes into a file that has a name already.
    """
    staged = staged_path(target)
    try:
        os.link(source, staged)
    except OSError:  # a file system without hard links, or another one
        shutil.copyfile(source, staged)
    staged.replace(target)


def strip(source: Path, target: Path, results: Mapping[str, list[Any]] | None = None) -> int:
    """Make a deployable checkpoint, half-precision EMA weights alone, and return the epoch it is of.

    results are the columns of results.csv; without them those that `source` carries stay. A stripped `source`
    keeps the epoch that it says it is of, -1 if it does not say.
    """
    state = load_checkpoint(source)
    epoch = int(state["epoch"] if state["epoch"] >= 0 else state.get(BEST_EPOCH, -1))
    updates = {BEST_EPOCH: epoch, EXACT: None} | ({} if results is None else {"train_results": results})
    staged = staged_path(target)
    strip_optimizer(source, s=staged, updates=updates)
    _sync(staged)
    put_in_place(staged, target)
    return epoch


def staged_path(path: Path) -> Path:
    """Where a file is written before it takes its name: each process has a place of its own.

    What another one left there goes first: it may be a hard link to a file that is still needed.
    """
    staged = path.with_name(f"{path.name}.{os.getpid()}.part")
    staged.unlink(missing_ok=True)
    return staged


def clear_staged(folder: Path) -> None:
    """Remove what killed attempts were writing there."""
    for part in folder.glob("*.part"):
        part.unlink(missing_ok=True)
