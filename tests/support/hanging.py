"""Training runs of a second or two that hang at a given point, each in a separate process."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

from include.training.heartbeat import Heartbeats
from include.training.stacks import STACKS_SIGNAL
from include.watchdog.attempt import watch_attempt
from include.watchdog.watch import Limits

EPOCHS = 4

IMAGES = 64
"""Number of images for a run with loader workers. Workers load up to 32 images ahead, so only a larger epoch
still needs its workers after its beginning."""


def attempt(folder: Path, number: int, limits: Limits, *how: str) -> int:
    """Run one attempt at the training run in the folder under a watchdog, as the task `train` does."""
    os.setsid()
    with watch_attempt(folder / "watchdog", number, limits) as heartbeats:
        fetch() if how == ("fetch-for-ever",) else train(folder, heartbeats, *how)
    return 0


def attempt_in_control_group(group: Path, folder: Path, number: int, limits: Limits, *how: str) -> int:
    """Enter the control group, and run one attempt and its watchdog in it."""
    (group / "cgroup.procs").write_text(str(os.getpid()))
    return attempt(folder, number, limits, *how)


def fetch() -> None:
    """Hang before training begins."""
    print("fetching", flush=True)
    time.sleep(600)


def train(folder: Path, heartbeats: Heartbeats, *how: str) -> None:
    """Train a classifier, or continue from an earlier attempt's state.

    An epoch has five batches, or sixteen with loader workers.
    """
    import torch
    from ultralytics.utils.callbacks.base import default_callbacks

    from include.training import run
    from include.training.distributed import train_in_ranks
    from include.training.plan import plan_training
    from tests.support import tiny_models
    from tests.support.tiny_trainings import Epochs, recovery, request

    options = dict(each.removeprefix("--").split("=") for each in how if each.startswith("--"))
    if "driver-hangs" in how:
        torch.cuda.is_available = do_not_respond
    if "workers-die-when-asked" in how:
        os.register_at_fork(after_in_child=die_when_asked_for_stacks)
    for each in how:
        if each in FAULTS:
            event, fault = FAULTS[each]
            default_callbacks[event].append(fault)

    def equip(trainer: Any) -> None:  # on a CPU Ultralytics uses no loader workers by itself
        trainer.args.workers = int(options.get("workers", 0))

    default_callbacks["on_pretrain_routine_start"].append(equip)
    default_callbacks["on_train_batch_start"].append(lambda _: time.sleep(0.05))
    training_request = request(
        "classify",
        folder,
        images=IMAGES if "workers" in options else tiny_models.IMAGES,
        model=tiny_models.architecture(folder, "classify"),
        epochs=9999 if options else EPOCHS,  # a run with workers or ranks trains until a test ends it
        save_dir=folder / "run",
        arguments={"imgsz": 64, "batch": 4, "plots": False, "patience": 0},
        identity={"job": "a"},
    )
    if (training_request.save_dir / "weights" / "last.pt").exists():
        training_request = recovery(training_request)
    training_request = replace(training_request, heartbeats=heartbeats)
    if "ranks" not in options:
        run.train(training_request, Epochs())
        return
    with plan_training(training_request) as plan:
        train_in_ranks(plan, int(options["ranks"]), Epochs(), program="tests.support.ranks_on_cpu")


def do_not_respond() -> bool:
    """Hang, as CUDA's initialisation may."""
    time.sleep(600)
    return False


def hold_the_interpreter_lock(trainer: Any) -> None:
    """Loop in C code in the first batch of the second epoch, and never release the interpreter lock."""
    if trainer.epoch == 1:
        deque(repeat(None), maxlen=0)


def sleep_in_validation(validator: Any) -> None:
    """In the first validation, sleep longer than the tests' limit for a batch."""
    if not hasattr(sleep_in_validation, "slept"):
        time.sleep(5)
        print("slept", flush=True)
    sleep_in_validation.slept = True  # type: ignore[attr-defined]


def take_all_memory(trainer: Any) -> None:
    """Allocate memory without end in the second epoch."""
    taken = []
    while trainer.epoch == 1:
        taken.append(b"x" * 2**26)


def die_when_asked_for_stacks() -> None:
    """Make this process exit on the signal that asks for its stacks."""
    signal.signal(STACKS_SIGNAL, lambda *_: os._exit(1))


FAULTS = {
    "hold-the-gil": ("on_train_batch_end", hold_the_interpreter_lock),
    "slow-validation": ("on_val_start", sleep_in_validation),
    "take-all-memory": ("on_train_batch_end", take_all_memory),
}
"""Each fault's event in Ultralytics, and its callback."""
