"""Trains: turns a request into best.pt and last.pt, and logs each epoch."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from include.training.devices import count_devices
from include.training.distributed import train_in_ranks
from include.training.plan import plan_training

if TYPE_CHECKING:
    from include.training.contract import (
        EpochReport,
        EpochReporter,
        StateReporter,
        TrainingRequest,
        TrainingResult,
    )
    from include.training.resumable import ResumableMixin

log = logging.getLogger(__name__)


def train(
    request: TrainingRequest, reporter: EpochReporter, states: StateReporter | None = None
) -> TrainingResult:
    """Train as requested, reporting each epoch, and return the outcome.

    When this returns, save_dir/weights/ has the complete training state in last.pt and the stripped model in
    best.pt; an earlier training run in that folder is replaced. With `states`, the state is also saved within
    epochs, in the background.

    Raises TrainingError (DeviceNotAvailable, NotResumable) if the request cannot be trained, and an
    AttemptError (MachineUnusable, ProcessKilled, DiskError, RankFailed) if this attempt cannot continue. An
    exception that a reporter raises ends training, and propagates.
    """
    started = time.monotonic()
    with plan_training(request) as plan:
        if (gpus := count_devices(plan.device)) > 1:
            result = train_in_ranks(plan, gpus, _LoggedEpochs(reporter), states)
        else:
            result = plan.train(_LoggedEpochs(reporter), states)
    return dataclasses.replace(result, seconds=time.monotonic() - started)


@contextmanager
def build_trainer(
    request: TrainingRequest, reporter: EpochReporter, states: StateReporter | None = None
) -> Iterator[ResumableMixin]:
    """Yield a trainer that is ready to train as `train` does, on one device. Raises TrainingError."""
    with plan_training(request) as plan:
        yield plan.build_trainer(_LoggedEpochs(reporter), states)


class _LoggedEpochs:
    """An EpochReporter that logs each epoch as `name=value` pairs, then passes it on."""

    def __init__(self, reporter: EpochReporter) -> None:
        self._reporter = reporter

    def report(self, epoch: EpochReport) -> bool:
        """Log `epoch`, counted from 1 as people do, and report it."""
        log.info("%s", _format_epoch(epoch))
        return self._reporter.report(epoch)


class SilentReporter:
    """An EpochReporter that ignores each epoch, for use where something else already reports it."""

    def report(self, epoch: EpochReport) -> bool:
        """Return True, so that training continues."""
        return True


def _format_epoch(epoch: EpochReport) -> str:
    """Format an epoch as one line: losses, validation metrics, its duration and the remaining time."""
    numbers = {
        name.removeprefix("metrics/"): value
        for name, value in epoch.metrics.items()
        if name.startswith(("train/", "metrics/"))
    }
    shown = [f"{name}={'nan' if value is None else format(value, '.4g')}" for name, value in numbers.items()]
    eta = timedelta(seconds=round(epoch.eta_seconds))
    return " ".join(
        [f"epoch={epoch.epoch + 1}/{epoch.epochs}", *shown, f"seconds={epoch.seconds:.1f}", f"eta={eta}"]
    )
