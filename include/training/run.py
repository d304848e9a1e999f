"""Trains: turns a request into best.pt and last.pt."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from include.training.devices import count_devices
from include.training.distributed import train_in_ranks
from include.training.plan import plan_training
from include.training.progress import LoggedEpochs

if TYPE_CHECKING:
    from include.training.contract import EpochReporter, StateReporter, TrainingRequest, TrainingResult
    from include.training.resumable import ResumableMixin


def train(
    request: TrainingRequest, reporter: EpochReporter, states: StateReporter | None = None
) -> TrainingResult:
    """Train as requested, reporting each epoch, and return the outcome.

    When this returns, save_dir/weights/ has the complete training state in last.pt and the stripped model in
    best.pt; an earlier training run in that folder is replaced. With `states`, the state is also saved within
    epochs, in the background.

    Raises TrainingError (DeviceNotAvailable, NotResumable) if the request cannot be trained, and an
    AttemptError (MachineUnusable, ProcessKilled, DiskError, RankFailed) if this attempt cannot continue; an
    exception that a reporter raises ends training and propagates.
    """
    started = time.monotonic()
    with plan_training(request) as plan:
        if (gpus := count_devices(plan.device)) > 1:
            result = train_in_ranks(plan, gpus, LoggedEpochs(reporter), states)
        else:
            result = plan.train(LoggedEpochs(reporter), states)
    return dataclasses.replace(result, seconds=time.monotonic() - started)


@contextmanager
def build_trainer(
    request: TrainingRequest, reporter: EpochReporter, states: StateReporter | None = None
) -> Iterator[ResumableMixin]:
    """Yield a trainer that is ready to train as `train` does, on one device. Raises TrainingError."""
    with plan_training(request) as plan:
        yield plan.build_trainer(LoggedEpochs(reporter), states)
