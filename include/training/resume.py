"""Prepares the continuation of a training run: its new folder, and a private copy of the state to start from.

When Ultralytics resumes, it can change only some arguments, and the number of epochs is not among them. It
also uses whatever results.csv and best.pt are in its folder. So the checkpoint is copied and changed, and its
results.csv and best.pt are restored with it.
"""

from __future__ import annotations

import csv
import logging
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.checkpoints.keys import BATCH, BEST_EPOCH, EXACT, LOSS_WATCH
from include.training.contract import NotResumable, StateMismatch
from include.training.devices import count_devices
from include.training.loading import count_batches_into_epoch, hand_over, load_checkpoint, load_training_state
from include.training.resumed_arguments import (
    describe_changes,
    find_changed_arguments,
    merge_arguments,
    recover_arguments,
    select_trusted_arguments,
)

if TYPE_CHECKING:
    from include.training.contract import TrainingRequest

log = logging.getLogger(__name__)

_MEMORY_ARGUMENTS = ("batch", "imgsz", "multi_scale", "amp")

_OTHER_JOB = "give the parameters that it started with, or fresh=true to start over, or another job_id"


@dataclass(frozen=True)
class RestoredState:
    """A training run that is ready to continue."""

    path: Path
    """A private copy of the complete state."""
    best_epoch: int
    """Epoch of the restored best.pt, counted from 0; -1, as in the file itself, if there is no best.pt or its
    epoch is unknown."""
    is_within_epoch: bool
    """Whether the state has batches of an epoch that has not ended."""
    has_ended: bool
    """Whether no epoch is left to train."""
    was_stopped: bool
    """Whether a user has stopped the training run."""
    fits_memory_of: str | None
    """The device (as in the numeric profile) on which epochs were trained with this batch and image size."""
    inexact_reason: str | None
    """Why the weights may differ from those of an uninterrupted training run, if this is already known."""
    changed: tuple[str, ...]
    """Names of the arguments that were changed on purpose."""


def restore(request: TrainingRequest, source: Path) -> RestoredState:
    """Prepare save_dir so that the training run in `source` can continue there; `source` is only read.

    Raises NotResumable for a file without a training state, StateMismatch if the state to recover belongs to
    another training run, TrainingError if no epoch is left to train or the teacher is missing, and DiskError
    or OSError if the disk is full.
    """
    from include.training.saving import save

    state = load_training_state(source, request.task)
    finished = int(state["epoch"]) + 1
    trained = select_trusted_arguments(request, state["train_args"], source)
    has_ended = False
    changed: tuple[str, ...] = ()
    restarted: str | None = None
    if request.recover:
        require_identity(state, request.identity, source)
        state["train_args"] = recover_arguments(request, trained)
        has_ended = bool(state[EXACT]["ended"])
        if has_ended or request.was_stopped:
            _validate_on_one_device(state)
    else:
        state["train_args"] = merge_arguments(request, trained, finished)
        changed = find_changed_arguments(request.arguments, trained)
        _renew_patience(state, finished)
        restarted = _adopt_state(state, trained, request)
    best_epoch, lost = _restore_files(request, source, state)
    private = request.save_dir / "resumed.pt"
    save(state, private)
    if count_devices(request.device) == 1:  # with several devices, other processes read the file
        hand_over(private, state, reads=2)  # Ultralytics loads it for its arguments, and again to continue
    reasons = filter(None, (describe_changes(changed, request.arguments, trained, finished), restarted, lost))
    return RestoredState(
        private,
        best_epoch,
        is_within_epoch=count_batches_into_epoch(state) > 0,
        has_ended=has_ended,
        was_stopped=request.was_stopped and not has_ended,
        fits_memory_of=_find_device_that_fits(
            request, state, trained, only_validates=has_ended or request.was_stopped
        ),
        inexact_reason="; ".join(reasons) or None,
        changed=changed,
    )


def _restore_files(request: TrainingRequest, source: Path, state: dict[str, Any]) -> tuple[int, str | None]:
    """Put the files that belong to `state` into save_dir, and return what `_restore_best` returns."""
    from include.training.saving import clear_staged
    from include.training.state_writer import locate_epoch_end

    weights = request.save_dir / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    clear_staged(weights)
    best_epoch, lost = _restore_best(request, source, state, weights / "best.pt")
    # Copied after best.pt, so that an attempt that finds this last.pt also finds the best.pt it refers to.
    # Ultralytics needs last.pt as well if an epoch ends in NaN.
    last = weights / "last.pt"
    _copy(source, last)
    _keep_epoch_end(state, request, locate_epoch_end(last))
    _write_history(state.get("train_results") or {}, request.save_dir / "results.csv")
    return best_epoch, lost


def _find_device_that_fits(
    request: TrainingRequest, state: Mapping[str, Any], trained: Mapping[str, Any], *, only_validates: bool
) -> str | None:
    """Return the device that trained the earlier epochs if a batch needs no more of its memory than before.

    A batch that fewer devices share needs more memory on each of them. This does not matter for the final
    validation.
    """
    same = all(state["train_args"].get(name) == trained.get(name) for name in _MEMORY_ARGUMENTS)
    profile = state.get(EXACT, {}).get("profile", {})
    larger_share = profile.get("processes", 1) > count_devices(request.device) and not only_validates
    fits = state["epoch"] >= 0 and same and not larger_share
    return profile.get("device") if fits else None


def _adopt_state(state: dict[str, Any], trained: Mapping[str, Any], request: TrainingRequest) -> str | None:
    """Turn another training run's state into the start of this one; return why this is inexact, or None.

    Training time is counted from 0. Losses are not compared with those of the other training run, but a
    learning rate that a rollback lowered stays lowered. With different data or another image size, an
    unfinished epoch restarts. The state is then inexact, because some batches of that epoch are trained
    twice.
    """
    exact = state.get(EXACT)
    if not exact:
        return None
    exact["trained_seconds"] = 0.0
    exact[LOSS_WATCH] = {"rate": exact.get(LOSS_WATCH, {}).get("rate", 1.0)}
    data = [identity.get("data") for identity in (exact.get("identity", {}), request.identity)]
    if count_batches_into_epoch(state) and (
        data[0] != data[1] or state["train_args"].get("imgsz") != trained.get("imgsz")
    ):
        log.warning("The data or the image size has changed: the unfinished epoch restarts.")
        exact |= {BATCH: 0, "gradients": {}, "pending": 0}
        return f"the data or the image size changed, so epoch {int(state['epoch']) + 2} restarted"
    return None


def _validate_on_one_device(state: dict[str, Any]) -> None:
    """Set the batch size to that of a single device in training: one device does the final validation."""
    batch, processes = state["train_args"].get("batch"), state[EXACT]["profile"].get("processes", 1)
    if isinstance(batch, int) and batch > 0:
        state["train_args"] = state["train_args"] | {"batch": max(1, batch // processes)}


def _keep_epoch_end(state: Mapping[str, Any], request: TrainingRequest, path: Path) -> None:
    """Keep the epoch-end state left at `path` if the unfinished epoch began with it; otherwise remove it."""
    if not path.exists():
        return
    try:
        found = load_training_state(path, request.task)
        require_identity(found, request.identity, path)
        starts_epoch = found["epoch"] == state["epoch"] and not count_batches_into_epoch(found)
        if starts_epoch and count_batches_into_epoch(state):
            return
    except NotResumable as error:
        log.info("The state in %s is not used: %s.", path, error)
    path.unlink()


def require_identity(
    state: Mapping[str, Any], identity: Mapping[str, object], source: Path, remedy: str = _OTHER_JOB
) -> None:
    """Raise StateMismatch, with `remedy`, unless `state` belongs to the training run with this identity."""
    found = state.get(EXACT, {}).get("identity", {})
    different = [name for name in dict.fromkeys([*found, *identity]) if found.get(name) != identity.get(name)]
    if EXACT in state and not different:
        return
    what = "; ".join(f"{name} was {found.get(name)!r} and is {identity.get(name)!r}" for name in different)
    raise StateMismatch(
        f"{source} is the state of another training run ({what or 'not of this project'}); {remedy}"
    )


def _renew_patience(state: dict[str, Any], finished: int) -> None:
    """Renew the patience if it is used up; otherwise training would stop after one epoch."""
    stopper = state.get("stopper")
    patience = state["train_args"].get("patience") or math.inf
    if stopper and finished - stopper["best_epoch"] >= patience:
        log.info("The patience of %d epochs was used up; counting starts over.", patience)
        state["stopper"] = {**stopper, "best_epoch": finished}


def _restore_best(
    request: TrainingRequest, source: Path, state: dict[str, Any], best: Path
) -> tuple[int, str | None]:
    """Put the best.pt that belongs to `state` in place, and return its epoch.

    Also returns a description of the best.pt that was lost; None if none was lost. Without a best.pt,
    best_fitness is reset, so that the best of the resumed epochs becomes best.pt.
    """
    kept_epoch = -1
    if request.best_from is not None:
        kept = load_checkpoint(request.best_from)
        by_the_stopper = (state.get("stopper") or {}).get("best_epoch", 0) - 1  # the stopper counts from 1
        kept_epoch = int(kept["epoch"] if kept["epoch"] >= 0 else kept.get(BEST_EPOCH, by_the_stopper))
    # best_from may be older than the state's own best, if the disk had no space for a newer one.
    if _is_best_epoch(state) and kept_epoch < state["epoch"]:
        _copy(source, best)
        return int(state["epoch"]), None
    if request.best_from is None:
        best.unlink(missing_ok=True)
        if state["epoch"] < 0:
            return -1, None  # no epoch has ended yet
        state["best_fitness"] = None
        log.warning("%s has no best.pt: the best epoch from now on becomes best.pt.", source)
        return -1, "the best.pt of the earlier epochs was lost"
    _copy(request.best_from, best)
    best_epoch = state.get(EXACT, {}).get(BEST_EPOCH, -1)
    if kept_epoch >= best_epoch:
        return kept_epoch, None
    log.warning(
        "%s is older than the best epoch, whose best.pt was lost: the older file is kept until an epoch "
        "improves on the lost one.",
        best,
    )
    return kept_epoch, f"the best.pt of epoch {best_epoch + 1} was lost"


def _is_best_epoch(state: Mapping[str, Any]) -> bool:
    """Return whether the state's last epoch is the best so far; without validation, every epoch is.

    A state within an epoch is never the best: its weights are not those at the end of any epoch.
    """
    if count_batches_into_epoch(state):
        return False
    fitness = state["best_fitness"]
    if fitness is None:
        return bool(state.get(EXACT, {}).get(BEST_EPOCH) == state["epoch"])
    return bool(fitness == state["train_metrics"].get("fitness"))


def _copy(source: Path, target: Path) -> None:
    from include.training.saving import prepare_staged_path

    if target.exists() and target.samefile(source):
        return
    staged = prepare_staged_path(target)
    shutil.copyfile(source, staged)
    staged.replace(target)


def _write_history(results: Mapping[str, list[Any]], path: Path) -> None:
    """Write results.csv in Ultralytics' format, from the columns in the checkpoint."""
    path.unlink(missing_ok=True)
    if results:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(results)
            writer.writerows(
                [f"{n:.6g}" if isinstance(n, (int, float)) else n for n in row]
                for row in zip(*results.values(), strict=True)
            )
