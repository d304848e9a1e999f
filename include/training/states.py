"""Decides when the state of a training run is saved, and adds values to those that Ultralytics saves."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from ultralytics.utils import RANK

from include.checkpoints.keys import BEGINNINGS, BEST_EPOCH, EXACT
from include.training.contract import SavedState, TrainingProgress
from include.training.host_copy import copy_to_host
from include.training.loss_guard import LossGuardMixin
from include.training.saving import build_whole_state, has_finite_weights
from include.training.state_writer import StateWriter, locate_epoch_end

if TYPE_CHECKING:
    from include.training.contract import StateReporter
    from include.training.loss_rules import LossRules
    from include.training.resume import RestoredState

log = logging.getLogger(__name__)


class StateSavingMixin(LossGuardMixin):
    """Saves the whole state at each epoch's end, and within epochs when a StateReporter requests it."""

    stop: bool
    """Whether training ends after the current epoch."""
    last: Path
    """Path of last.pt."""
    best: Path
    """Path of best.pt."""

    def __init__(
        self,
        overrides: dict[str, Any],
        identity: Mapping[str, object],
        restored: RestoredState | None,
        states: StateReporter | None,
        loss_rules: LossRules,
    ) -> None:
        self._states = states
        self._identity = dict(identity)
        self._is_under_way = False
        self._repeated_epoch: int | None = None
        self._trained_before = 0.0  # seconds spent in the training loop by earlier attempts
        self.seconds_before = self._resumed_seconds = 0.0  # those of them that belong to the resumed epoch
        self._loop_started = self._epoch_started = time.monotonic()
        self.best_epoch = restored.best_epoch if restored else -1
        """Epoch of best.pt, counted from 0; -1 until it is known, as in the saved states."""
        super().__init__(overrides, loss_rules)
        self.add_callback("on_train_start", StateSavingMixin._begin_loop)
        self.add_callback("on_train_epoch_start", StateSavingMixin._begin_epoch_clock)
        self.add_callback("on_train_batch_end", StateSavingMixin._report_batch)
        self.state_writer = StateWriter(
            self.last,
            self.best,
            states.report_state if states else lambda _: None,
            last_is_within_epoch=restored is not None and restored.is_within_epoch,
        )
        """Writes states in the background, atomically: a kill never leaves half a file."""

    def save_model(self) -> bool:
        """Save the state at the epoch's end: as last.pt, and as best.pt if this epoch is the best so far.

        Without a StateReporter, the files are in place when this returns.
        """
        improved = self.best_fitness == self.fitness
        if improved:
            self.best_epoch = self.epoch
        self.state_writer.flush()
        self._save(0, becomes_best=improved)
        if self._states is None:
            self.state_writer.flush()
        return True

    def _save(self, batches: int, *, becomes_best: bool) -> None:
        state = build_whole_state(self, batches)
        # Without validation every epoch counts as the best, so best.pt is published only at the end.
        is_best = becomes_best and self.fitness is not None
        saved = SavedState(state["epoch"], batches, is_best, state[EXACT]["trained_seconds"])
        copy, wait = copy_to_host(state, self.device)
        if self.epoch_starts and not self.stop:
            copy[EXACT][BEGINNINGS] = self.epoch_starts
        self.state_writer.write(copy, wait, saved, becomes_best=becomes_best)

    def _report_batch(self) -> None:
        """Report the batch, and save the state if that is requested and safe.

        It is not safe if a loss or weight is not finite, or if the epoch is repeated or may be rolled back.
        """
        if RANK not in {-1, 0}:
            return
        batches = self._batch + 1
        if not self._is_under_way:
            self._is_under_way = True
            log.info("This attempt is training: batch %d of epoch %d is finished.", batches, self.epoch + 1)
        if self._states is None or self.train_loader.is_cut:
            return
        self.state_writer.check()
        is_repeated = self.epoch == self._repeated_epoch
        progress = TrainingProgress(
            self.epoch - 1, batches, len(self.train_loader), self.trained_seconds, is_repeated
        )
        if not self._states.report_progress(progress) or is_repeated or self.state_writer.is_busy:
            return
        if self._watch.is_undecided:
            return
        if all(loss.isfinite() for loss in (self.tloss or {}).values()) and has_finite_weights(self):
            self._save(batches, becomes_best=False)

    @property
    def trained_seconds(self) -> float:
        """Seconds spent in the training loop over all attempts, as in TrainingProgress."""
        return self._trained_before + time.monotonic() - self._loop_started

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """Repeat an epoch from the state at its start, even if states within the epoch were saved."""
        self.state_writer.flush()
        if RANK != -1:
            dist.barrier()  # rank 0 writes the files that all ranks read
        last, epoch_end = self.last, locate_epoch_end(self.last)
        if epoch_end.exists():
            self.last = epoch_end
        try:
            repeat = super()._handle_nan_recovery(epoch)
        finally:
            self.last = last
        if repeat:
            self._repeated_epoch = epoch
        if repeat and self.state_writer.last_is_within_epoch and not epoch_end.exists():
            self.mark_inexact(
                f"epoch {epoch + 1} ended in NaN after it was resumed midway: the state at its start was lost"
            )
        return repeat

    def build_exact_state(self, batches: int) -> dict[str, Any]:
        """Add to the state the run's identity, whether it has ended, its best epoch and its times."""
        epoch_seconds = self.seconds_before + time.monotonic() - self._epoch_started
        return super().build_exact_state(batches) | {
            "identity": self._identity,
            "ended": bool(self.stop),
            BEST_EPOCH: self.best_epoch,
            "trained_seconds": self.trained_seconds,
            "epoch_seconds": epoch_seconds if batches else 0.0,
        }

    def _build_train_pipeline(self) -> None:
        if self._in_batch:  # memory ran out, so the epoch restarts with half the batch size
            self._repeated_epoch = self.epoch
        super()._build_train_pipeline()

    def resume_training(self, ckpt: dict[str, Any]) -> None:
        """Restore the state, and the training time of earlier attempts."""
        super().resume_training(ckpt)
        exact = ckpt.get(EXACT) or {}
        self._trained_before = exact.get("trained_seconds", 0.0)
        self._resumed_seconds = exact.get("epoch_seconds", 0.0)

    def _begin_loop(self) -> None:
        self._loop_started = time.monotonic()
        if self.args.time:  # otherwise, the budget would begin anew with each attempt, perhaps without end
            self.train_time_start -= self._trained_before

    def _get_warmup_iterations(self, num_batches: int) -> int:
        # Ultralytics calls this right after its own estimate of the number of epochs, which takes this
        # attempt for the first.
        if self.args.time and getattr(self, "epoch_time", None) is not None:
            self.epochs = self.args.epochs = self._estimate_epochs()
        return int(super()._get_warmup_iterations(num_batches))

    def _estimate_epochs(self) -> int:
        """Return how many epochs the budget `time` allows in total, from the epochs of this attempt."""
        mean = (self.trained_seconds - self._trained_before) / (self.epoch - self.start_epoch + 1)
        left = max(float(self.args.time) * 3600 - self.trained_seconds, 0.0)
        return self.epoch + 1 + math.ceil(left / mean)

    def _begin_epoch_clock(self) -> None:
        self._epoch_started = time.monotonic()
        self.seconds_before, self._resumed_seconds = self._resumed_seconds, 0.0
