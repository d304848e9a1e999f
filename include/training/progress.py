"""Two reporters of epochs: one logs each epoch and passes it on, the other ignores it."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from include.training.contract import EpochReport, EpochReporter

log = logging.getLogger(__name__)


class LoggedEpochs:
    """An EpochReporter that logs each epoch as `name=value` pairs, then passes it on."""

    def __init__(self, reporter: EpochReporter) -> None:
        self._reporter = reporter

    def report(self, epoch: EpochReport) -> bool:
        """Log `epoch`, counted from 1 as people do, and report it."""
        log.info("%s", format_epoch(epoch))
        return self._reporter.report(epoch)


class SilentReporter:
    """An EpochReporter that ignores each epoch, for use where something else already reports it."""

    def report(self, epoch: EpochReport) -> bool:
        """Return True, so that training continues."""
        return True


def format_epoch(epoch: EpochReport) -> str:
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
