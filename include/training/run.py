"""One training, from a request to its two checkpoints."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from include.training.devices import count_devices
from include.training.distributed import train_in_ranks
from include.training.plan import planned
from include.training.progress import LoggedEpochs

if TYPE_CHECKING:
    from include.training.contract import EpochReporter, StateReporter, TrainingRequest, TrainingResult
    from include.training.trainers import WholeState


def train(
    request: TrainingRequest, reporter: EpochReporter, states: StateReporter | None = None
) -> TrainingResult:
    """Train as `request` says, reporting each epoch, and return what the training left behind.

    Below save_dir/weights/, last.pt is then the whole training state and best.pt the stripped model; an
    earlier training there is replaced. With `states` it is saved within epochs too, in the background.

    Raises TrainingError (DeviceNotAvailable, NotResumable) with a sentence for what cannot be trained; an
    exception of who is reported to ends the training and is passed on.
    """
    started = time.monotonic()
    with planned(request) as plan:
        if (gpus := count_devices(plan.device)) > 1:
            result = train_in_ranks(plan, gpus, LoggedEpochs(reporter), states)
        else:
            result = plan.train(LoggedEpochs(reporter), states)
    return dataclasses.replace(result, seconds=time.monotonic() - started)


@contextmanager
def prepared(
    request: TrainingRequest, reporter: EpochReporter, states: StateReporter | None = None
) -> Iterator[WholeState]:
    """Build the trainer that is about to do what `train` does, on one device. Raises TrainingError."""
    with planned(request) as plan:
        yield plan.trainer(LoggedEpochs(reporter), states)
