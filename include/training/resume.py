"""Continuing a training: what the new folder needs before its first epoch, and a private state to start from.

Ultralytics can change only some arguments when it resumes, the number of epochs not among them, and it begins
results.csv and best.pt anew. So the checkpoint is copied, changed, and restored with what belongs to it.
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
from include.training.arguments import OURS, check_overrides, known_arguments
from include.training.changes import changed_arguments, reason_of
from include.training.contract import (
    NotResumable,
    StateMismatch,
    TrainingError,
    UnreadableCheckpoint,
)
from include.training.loading import batches_of, load_checkpoint, load_training_state

if TYPE_CHECKING:
    from include.training.contract import TrainingRequest

log = logging.getLogger(__name__)

KEPT = ("optimizer", "seed", "pretrained")
"""What stays as it was when the training began; `optimizer=auto` has set the first by then."""

_MEMORY_ARGUMENTS = ("batch", "imgsz", "multi_scale", "amp")


@dataclass(frozen=True)
class RestoredState:
    """A training that is ready to go on.

    path is a private copy of the whole state; best_epoch is that of the restored best.pt, -1 without one.
    within_epoch tells that batches of an epoch are in it that has not ended.
    ended tells that no epoch is left, stopped that none is wanted; fits_memory that epochs were trained with
    this batch and image size; inexact_reason, where it is known already, why the weights may differ from
    those of an uninterrupted training. changed names the arguments that were changed on purpose.
    """

    path: Path
    best_epoch: int
    within_epoch: bool = False
    ended: bool = False
    stopped: bool = False
    fits_memory: bool = False
    inexact_reason: str | None = None
    changed: tuple[str, ...] = ()


def restore(request: TrainingRequest, source: Path) -> RestoredState:
    """Prepare save_dir so that the training in `source` goes on there; `source` itself is only read.

    Raises NotResumable for a file that holds no training state, StateMismatch for another training's where
    this one is to be recovered, TrainingError where no epoch is left to train or a teacher is not given.
    """
    from include.training.saving import clear_staged, save
    from include.training.state_writer import epoch_end_of

    state = load_training_state(source, request.task)
    finished = int(state["epoch"]) + 1
    state["train_args"] = _known_arguments(request, state["train_args"], source)
    trained, ended = state["train_args"], False
    changed: tuple[str, ...] = ()
    if request.recover:
        require_identity(state, request.identity, source)
        state["train_args"] = {**_without_workers_of_cpu(request, trained), **_machine_arguments(request)}
        ended = bool(state[EXACT]["ended"])
        if ended or request.stop:
            _validate_on_one_device(state)
    else:
        state["train_args"] = _arguments(request, state["train_args"], finished)
        changed = changed_arguments(_changes(request), trained)
        _renew_patience(state, finished)
        _make_its_own(state, trained, request)
    weights = request.save_dir / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    clear_staged(weights)
    best_epoch, lost = _restore_best(request, source, state, weights / "best.pt")
    # After best.pt, so that an attempt that finds this last.pt finds what it refers to. Ultralytics needs it,
    # too, where an epoch ends in NaN.
    last = weights / "last.pt"
    _copy(source, last)
    _keep_epoch_end(state, request, epoch_end_of(last))
    _write_history(state.get("train_results") or {}, request.save_dir / "results.csv")
    private = request.save_dir / "resumed.pt"
    save(state, private)
    same = all(state["train_args"].get(name) == trained.get(name) for name in _MEMORY_ARGUMENTS)
    fits = finished > 0 and same
    within_epoch = batches_of(state) > 0
    reasons = filter(None, (reason_of(changed, request.arguments, trained, finished), lost))
    return RestoredState(
        private,
        best_epoch,
        within_epoch,
        ended,
        request.stop and not ended,
        fits,
        "; ".join(reasons) or None,
        changed,
    )


def _changes(request: TrainingRequest) -> dict[str, object]:
    return {name: value for name, value in request.arguments.items() if name not in KEPT}


def _make_its_own(state: dict[str, Any], trained: Mapping[str, Any], request: TrainingRequest) -> None:
    """Make another training's state the beginning of this one: with its own clock, and its own data.

    Its losses are not compared with the other's, but a learning rate that was lowered stays so.
    With other data, or images of another size, the epoch that the state is in begins anew.
    """
    exact = state.get(EXACT)
    if not exact:
        return
    exact["trained_seconds"] = 0.0
    exact[LOSS_WATCH] = {"rate": exact.get(LOSS_WATCH, {}).get("rate", 1.0)}
    data = [identity.get("data") for identity in (exact.get("identity", {}), request.identity)]
    if batches_of(state) and (data[0] != data[1] or state["train_args"].get("imgsz") != trained.get("imgsz")):
        log.warning("The data are others than before: the epoch begins anew.")
        exact |= {BATCH: 0, "gradients": {}, "pending": 0}


def _validate_on_one_device(state: dict[str, Any]) -> None:
    """Let the one device that validates take as many images at once as each of several did."""
    batch, processes = state["train_args"].get("batch"), state[EXACT]["profile"].get("processes", 1)
    if isinstance(batch, int) and batch > 0:
        state["train_args"] = state["train_args"] | {"batch": max(1, batch // processes)}


def _keep_epoch_end(state: Mapping[str, Any], request: TrainingRequest, path: Path) -> None:
    """Keep what an attempt left at `path` where it is of the same training, when the epoch began."""
    if not path.exists():
        return
    try:
        found = load_training_state(path, request.task)
        require_identity(found, request.identity, path)
        if (found["epoch"], batches_of(found)) == (state["epoch"], 0) and batches_of(state):
            return
    except NotResumable as error:
        log.info("What lies in %s is not used: %s.", path, error)
    path.unlink()


def require_identity(state: Mapping[str, Any], identity: Mapping[str, object], source: Path) -> None:
    """Raise StateMismatch unless `state` was left by the training that `identity` tells of."""
    found = state.get(EXACT, {}).get("identity", {})
    different = [name for name in dict.fromkeys([*found, *identity]) if found.get(name) != identity.get(name)]
    if EXACT in state and not different:
        return
    what = "; ".join(f"{name} was {found.get(name)!r} and is {identity.get(name)!r}" for name in different)
    raise StateMismatch(
        f"{source} is the state of another training ({what or 'none of ours'}); give the parameters that it "
        "began with, or fresh=true to start over, or another job_id"
    )


def _known_arguments(request: TrainingRequest, trained: Mapping[str, Any], source: Path) -> dict[str, Any]:
    """Return the arguments of the file that are used: a training's, and no file that was not asked for.

    Raises UnreadableCheckpoint for values that no training has, TrainingError for a teacher that is not
    given.
    """
    table = known_arguments()
    known = {name: value for name, value in trained.items() if name in table or name in OURS}
    try:
        check_overrides({k: v for k, v in known.items() if v is not None and k not in OURS})
    except ValueError as error:
        raise UnreadableCheckpoint(f"{source} cannot be resumed: in its train_args, {error}") from None
    teacher = request.arguments.get("distill_model")
    if known.get("distill_model") not in {None, teacher}:
        raise TrainingError(
            f"{source} was distilled from a teacher, and a path in a checkpoint is not followed; give "
            "distill_model=, the path of that teacher on this machine"
        )
    return known


def _machine_arguments(request: TrainingRequest) -> dict[str, object]:
    """Arguments that may be others on another machine without changing what is computed."""
    return {name: request.arguments[name] for name in ("workers",) if name in request.arguments}


def _without_workers_of_cpu(request: TrainingRequest, trained: Mapping[str, Any]) -> dict[str, Any]:
    """Drop the workers that Ultralytics sets on a CPU, none, where a GPU goes on: it would starve."""
    moves = request.device != "cpu" and trained.get("device") == "cpu"
    return {name: value for name, value in trained.items() if not (moves and name == "workers")}


def _arguments(request: TrainingRequest, trained: Mapping[str, Any], finished: int) -> dict[str, Any]:
    changes = dict(request.arguments)
    trained = _without_workers_of_cpu(request, trained)
    for name in KEPT:
        value = changes.pop(name, None)
        if value not in {None, "auto", trained.get(name)}:
            log.warning("%s=%s is not applied: the training goes on with %s.", name, value, trained.get(name))
    arguments = {**trained, **changes}
    epochs = request.epochs or int(trained["epochs"])
    if arguments.get("time"):
        epochs = finished + 100  # as in a new training: the first epoch tells how many fit the budget
    elif epochs <= finished:
        raise TrainingError(
            f"epochs={epochs} leaves nothing to train: {request.resume_from} has finished {finished} epochs; "
            f"give epochs larger than {finished}"
        )
    return {**arguments, "epochs": epochs}


def _renew_patience(state: dict[str, Any], finished: int) -> None:
    """Begin a new window where the old one is used up: the training would stop after its first epoch."""
    stopper = state.get("stopper")
    patience = state["train_args"].get("patience") or math.inf
    if stopper and finished - stopper["best_epoch"] >= patience:
        log.info("The patience of %d epochs was used up; it begins anew.", patience)
        state["stopper"] = {**stopper, "best_epoch": finished}


def _restore_best(
    request: TrainingRequest, source: Path, state: dict[str, Any], best: Path
) -> tuple[int, str | None]:
    """Put the best.pt that belongs to `state` in place; returns its epoch and, if it is lost, that it is.

    Without one, best_fitness is forgotten, so that the best of the resumed epochs becomes best.pt.
    """
    kept_epoch = -1
    if request.best_from is not None:
        kept = load_checkpoint(request.best_from)
        by_the_stopper = (state.get("stopper") or {}).get("best_epoch", 0) - 1  # it counts from 1
        kept_epoch = int(kept["epoch"] if kept["epoch"] >= 0 else kept.get(BEST_EPOCH, by_the_stopper))
    # Older than the state's own best is one in S3 where no newer one could be made, for want of disk.
    if _is_its_own_best(state) and kept_epoch < state["epoch"]:
        _copy(source, best)
        return int(state["epoch"]), None
    if request.best_from is not None:
        lost = None
        best_epoch = state.get(EXACT, {}).get(BEST_EPOCH, -1)
        if kept_epoch < best_epoch:
            log.warning("%s is of an epoch before the best one: it stays until one is better.", best)
            lost = f"the best.pt of epoch {best_epoch + 1} was lost"
        _copy(request.best_from, best)
        return kept_epoch, lost
    best.unlink(missing_ok=True)
    if state["epoch"] < 0:
        return -1, None  # there has been none
    state["best_fitness"] = None
    log.warning("There is no best.pt to %s: the best of the epochs from here on becomes it.", source)
    return -1, "the best.pt of the epochs before was lost"


def _is_its_own_best(state: Mapping[str, Any]) -> bool:
    """Whether no epoch was better than the state's last one. Without validation each is the best in turn.

    A state within an epoch has weights of its own, which are those of no epoch.
    """
    if batches_of(state):
        return False
    fitness = state["best_fitness"]
    if fitness is None:
        return bool(state.get(EXACT, {}).get(BEST_EPOCH) == state["epoch"])
    return bool(fitness == state["train_metrics"].get("fitness"))


def _copy(source: Path, target: Path) -> None:
    if _same_file(source, target):
        return
    from include.training.saving import staged_path

    staged = staged_path(target)
    shutil.copyfile(source, staged)
    staged.replace(target)


def _same_file(one: Path, other: Path) -> bool:
    return other.exists() and other.samefile(one)


def _write_history(results: Mapping[str, list[Any]], path: Path) -> None:
    """Write results.csv as Ultralytics does, from the columns that the checkpoint carries."""
    path.unlink(missing_ok=True)
    if results:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(results)
            writer.writerows(
                [f"{n:.6g}" if isinstance(n, (int, float)) else n for n in row]
                for row in zip(*results.values(), strict=True)
            )
