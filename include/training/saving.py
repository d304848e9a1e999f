"""Builds checkpoints and writes them to disk atomically."""

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
from ultralytics.nn.distill_model import DistillationModel
from ultralytics.utils import DEFAULT_CFG_DICT, DEFAULT_CFG_KEYS
from ultralytics.utils.torch_utils import qat_state, strip_qat, unwrap_model

from include.checkpoints.keys import BEST_EPOCH, EXACT
from include.datasets.disk import flush_file
from include.training.contract import DiskError
from include.training.library_errors import format_error, reports_killed_worker
from include.training.loading import load_checkpoint

if TYPE_CHECKING:
    from include.training.exact import ExactMixin


_ONLY_FOR_TRAINING = ("optimizer", "best_fitness", "stopper", "ema", "updates", "scaler", EXACT)


def build_whole_state(trainer: ExactMixin, batches: int = 0) -> dict[str, Any]:
    """Return everything a training run needs to continue, under Ultralytics' keys and one more (EXACT).

    If `batches` is given, this is the state after that many batches of the current epoch; otherwise, it is
    the state at the epoch's end. Only the tensors of `ema`, a model in half precision, are copied.

    This replaces BaseTrainer.save_model (8.4.190), which cannot store additional keys and which copies and
    rounds the optimizer's state. Plain Ultralytics can load this checkpoint, and can also resume it if it was
    saved after the first epoch ended.
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
            torch.nan_to_num_(tensor)  # values that overflow in half precision
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
        EXACT: trainer.build_exact_state(batches),
    }


def has_finite_weights(trainer: ExactMixin) -> bool:
    """Return whether the live weights and their average are finite; otherwise the state is not saved."""
    models = (unwrap_model(trainer.model), trainer.ema.ema)
    return all(are_finite(model.state_dict().values()) for model in models)


def are_finite(weights: Iterable[torch.Tensor]) -> bool:
    """Return whether all weights are finite.

    Only the sums of the tensors are checked, all at once, so the GPU is queried once instead of hundreds of
    times.
    """
    floating = [tensor.detach() for tensor in weights if tensor.is_floating_point()]
    return bool(torch.stack([tensor.sum(dtype=torch.float32) for tensor in floating]).isfinite().all())


def _replace_non_finite(trainer: ExactMixin) -> None:
    """Replace EMA tensors that are not finite with the live ones, because an average never loses a NaN."""
    average = trainer.ema.ema.state_dict()
    if are_finite(average.values()):
        return
    live = unwrap_model(trainer.model).state_dict()
    for name, tensor in average.items():
        if tensor.is_floating_point() and not tensor.isfinite().all() and live[name].isfinite().all():
            tensor.copy_(live[name])


def save(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint atomically, to a new inode, so that hard links keep the old content."""
    put_in_place(write(state, path), path)


def put_in_place(staged: Path, path: Path) -> None:
    """Rename the file returned by `write` to `path`, so that the renaming survives a power cut."""
    staged.replace(path)
    with suppress(OSError):  # some file systems cannot sync folders
        flush_file(path.parent)


def write(state: dict[str, Any], path: Path) -> Path:
    """Write a checkpoint to a file next to `path`, and return that file's path. Raises DiskError.

    To replace `path` with the file, call `put_in_place`.
    """
    staged = prepare_staged_path(path)
    try:
        torch.save(state, staged)
        flush_file(staged)  # otherwise a power cut after the renaming could leave an empty file
    except (OSError, RuntimeError) as error:  # torch does not report a full disk as such
        written = staged.stat().st_size if staged.exists() else 0
        free = written + (shutil.disk_usage(path.parent).free if path.parent.is_dir() else 0)
        staged.unlink(missing_ok=True)
        if reports_killed_worker(error):
            raise
        raise DiskError(
            f"{path} could not be written ({format_error(error)}): the disk had {free / 1e6:.0f} MB free. "
            "Free some space, or move the training folder to a larger disk; the previous state is intact"
        ) from error
    return staged


def link_or_copy(source: Path, target: Path) -> None:
    """Keep the current content of `source` at `target`: as a hard link, which costs nothing, or as a copy.

    The link keeps its content because no code here writes into a file that already has its final name.
    """
    staged = prepare_staged_path(target)
    try:
        os.link(source, staged)
    except OSError:  # no hard links, or two different file systems
        shutil.copyfile(source, staged)
    staged.replace(target)


def strip(source: Path, target: Path, results: Mapping[str, list[Any]] | None = None) -> int:
    """Write the deployable form of the checkpoint at `source` to `target`, and return its epoch.

    `results` are the columns of results.csv. If `results` is None, the results in `source` are kept, and a
    file that is already deployable is copied unchanged.
    """
    state = load_checkpoint(source)
    if results is None and state["epoch"] < 0 and BEST_EPOCH in state:
        if source != target:
            link_or_copy(source, target)
        return int(state[BEST_EPOCH])
    stripped = strip_state(state)
    if results is not None:
        stripped["train_results"] = results
    save(stripped, target)
    return int(stripped[BEST_EPOCH])


def strip_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checkpoint without its training state, with half-precision EMA weights as its model.

    Its best_epoch is the epoch of `state`. If `state` has been stripped, it is the best_epoch that `state`
    records, or -1. This changes the module in `state`, so nothing else may use that module.

    The result equals the content that `strip_optimizer` of ultralytics/utils/torch_utils.py (8.4.190) writes.
    That function accepts only a file, so the whole state would be read again for every improvement. That
    takes a second of CPU time.
    """
    network = state.get("ema") or state["model"]
    if isinstance(network, DistillationModel):
        network._remove_feature_hooks()
        network = network.student_model
    if hasattr(network, "args"):
        network.args = dict(network.args)
    if hasattr(network, "criterion"):
        network.criterion = None
    network.half().requires_grad_(False)
    epoch = int(state["epoch"] if state["epoch"] >= 0 else state.get(BEST_EPOCH, -1))
    arguments = DEFAULT_CFG_DICT | state["train_args"]
    return {
        **state,
        **dict.fromkeys(_ONLY_FOR_TRAINING),
        "epoch": -1,
        BEST_EPOCH: epoch,
        "model": network,
        "train_args": {name: value for name, value in arguments.items() if name in DEFAULT_CFG_KEYS},
    }


def prepare_staged_path(path: Path) -> Path:
    """Return the path at which this process writes a file before renaming it to `path`.

    A file that was left there is removed first: it may be a hard link to a file that is still needed.
    """
    staged = path.with_name(f"{path.name}.{os.getpid()}.part")
    staged.unlink(missing_ok=True)
    return staged


def clear_staged(folder: Path) -> None:
    """Remove the unfinished files of killed attempts."""
    for part in folder.glob("*.part"):
        part.unlink(missing_ok=True)
