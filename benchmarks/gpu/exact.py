"""Check that a training run that is killed and resumed ends with the same bits as an uninterrupted one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.child import ChildDied, run_in_child
from benchmarks.gpu.photographs import photographs
from benchmarks.gpu.place import processors
from benchmarks.gpu.step import Step
from benchmarks.gpu.training_run import TrainingRun, read_final_state, train_to_the_end, train_until_killed
from include.ultralytics_tasks import TASKS

if TYPE_CHECKING:
    from benchmarks.gpu.place import Place
    from benchmarks.gpu.training_run import FinalState
    from include.ultralytics_tasks import Task

EPOCHS = 3
_BEFORE, _AFTER = 8, 4
"""Number of loader workers before the kill, and after the resume."""

QUICK: tuple[Task, ...] = ("classify", "depth")
"""Tasks to check besides detect when `--quick` is given."""

COLUMNS = (
    "model", "two whole runs", "killed and resumed", "live", "EMA", "optimizer", "pending batches",
    "outside the guarantee", "operators that warn",
)  # fmt: skip

_ABOUT = (
    f"Three training runs from scratch, {EPOCHS} epochs of {{images}} each: two are uninterrupted, and one "
    "is killed with SIGKILL in epoch 2 and resumed. The SHA-256 hashes of the live weights, their EMA and "
    "the optimizer's state are compared. The table says `equal`, or names the parts that differ. The "
    "columns named after these parts show the first digits of the resumed run's hashes. Ultralytics' AMP "
    f"and memory format, no warm-up, mosaic until the last epoch, {_BEFORE} loader workers before the kill "
    f"and {_AFTER} after it. The state is saved after every second batch. Pending batches are those whose "
    "gradients had not been applied yet when the attempt resumed."
)


def _measure_detect(place: Place) -> Iterator[Sequence[Any]]:
    for model in ("yolo11n",) if place.quick else ("yolo11n", "yolo26n"):
        yield compare(place, "detect", model)


def _measure_others(place: Place) -> Iterator[Sequence[Any]]:
    """Run several tasks in parallel, because most of their time is spent on starting processes."""
    tasks = QUICK if place.quick else [task for task in TASKS if task != "detect"]
    at_once = max(2, processors() // 4)
    for first in range(0, len(tasks), at_once):
        with ExitStack() as stack:
            children = []
            for task in tasks[first : first + at_once]:
                log = place.folder / f"exact-{task}.log"
                children.append(stack.enter_context(run_in_child(compare, place, task, "yolo11n", log=log)))
            for child in children:
                yield child.result()


def compare(
    place: Place,
    task: Task,
    model: str,
    device: str | None = None,
    to_the_end: Callable[[TrainingRun], FinalState] = train_to_the_end,
    until_killed: Callable[[TrainingRun, int, int], None] = train_until_killed,
) -> Sequence[Any]:
    """Train three times in parallel, once with an interruption; return the row of the table."""
    folder = place.own(f"exact-{task}-{model}-{device or place.device}")
    whole = _training(place, task, model, folder / "whole", device or place.device)
    again, killed = (replace(whole, folder=folder / name) for name in ("again", "killed"))
    with ExitStack() as stack:
        runs = [
            stack.enter_context(run_in_child(to_the_end, one, log=one.folder.with_suffix(".log")))
            for one in (whole, again)
        ]
        workers = 1 if place.quick else _AFTER
        log = killed.folder.with_suffix(".log")
        interrupted = stack.enter_context(
            run_in_child(_train_interrupted, killed, workers, log, to_the_end, until_killed, log=log)
        )
        one, other = (run.result() for run in runs)
        pending, resumed = interrupted.result()
    reasons = {left.inexact_reason for left in (one, other, resumed)} - {None}
    operators = sorted({*one.nondeterministic, *other.nondeterministic, *resumed.nondeterministic})
    return [
        Path(whole.model).stem,
        _difference(one, other),
        _difference(one, resumed),
        *(resumed.digests[part][:12] for part in ("live", "ema", "optimizer")),
        pending,
        "; ".join(map(str, reasons)) or "no",
        ", ".join(operators) or "none",
    ]


def _training(place: Place, task: Task, model: str, folder: Path, device: str) -> TrainingRun:
    """Return a training run of 11 batches per epoch (5 if quick): epochs end between optimizer steps."""
    arguments: dict[str, object] = {"warmup_epochs": 0, "close_mosaic": 1}
    if place.quick:
        data = photographs(place.folder, task, 18, 4, size=(96, 64))
        arguments |= {"imgsz": 64, "batch": 4, "nbs": 12}
    else:
        data = photographs(place.folder, task, 172, 16)
        arguments |= {"imgsz": 320, "batch": 16}
    workers = 2 if place.quick else _BEFORE
    return TrainingRun(
        task,
        place.architecture(task, model),
        data,
        folder,
        EPOCHS,
        device,
        workers,
        arguments,
        save_batches=2,
    )


def _train_interrupted(
    training: TrainingRun,
    workers: int,
    log: Path,
    to_the_end: Callable[[TrainingRun], FinalState],
    until_killed: Callable[[TrainingRun, int, int], None],
) -> tuple[int, FinalState]:
    """Train, kill, resume; return how many batches were pending at the resume, and the final state."""
    with run_in_child(until_killed, training, 1, 2, log=log) as child, suppress(ChildDied):
        child.result()
    with run_in_child(read_final_state, training, log=log) as reader:
        pending = reader.result().pending
    resumed_training = replace(training, recover=True, workers=workers)
    with run_in_child(to_the_end, resumed_training, log=log) as other:
        return pending, other.result()


def _difference(one: FinalState, other: FinalState) -> str:
    different = [part for part, digest in one.digests.items() if other.digests[part] != digest]
    return f"DIFFERENT: {', '.join(different)}" if different else "equal"


DETECT = Step("exact, detect", _ABOUT.format(images="172 photographs"), COLUMNS, _measure_detect, seconds=90)
OTHERS = Step(
    "exact, other tasks",
    "The same check for the other tasks, several of which run in parallel.",
    COLUMNS,
    _measure_others,
    seconds=150,
)
