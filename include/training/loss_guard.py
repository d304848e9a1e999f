"""Applies the rules for a training run's loss: warns, ends the run, or rolls it back to an earlier state.

A rollback restores weights, their average and the optimizer as they were at the start of an epoch, ends the
current epoch, and lowers the learning rate. The epoch number does not go back: training continues with the
next epoch, and so with batches other than those on which it diverged. PaLM was trained in this way (Chowdhery
et al. 2022, 5.1: go back about 100 steps, skip 200 to 500 batches). Because the epoch number never decreases,
a later state always has a later epoch or batch, and training ends no matter how often it is rolled back.

The recent losses, the learning rate, and the states that a rollback may return to are part of the training
state. So a training run that is interrupted and resumed on another machine is rolled back after the same
batch, to a bit-identical state. With several processes, each one gets the mean of all losses, so all of them
make the same decision.
"""

from __future__ import annotations

import logging
import math
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from ultralytics.utils import RANK
from ultralytics.utils.torch_utils import ModelEMA, unwrap_model

from include.checkpoints.keys import BEGINNINGS, EXACT, LOSS_WATCH
from include.training.contract import TrainingError
from include.training.exact import ExactMixin
from include.training.host_copy import copy_to_host
from include.training.loss_rules import MOST_ROLL_BACKS, Action, LossWatch
from include.training.saving import are_finite

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.training.loss_rules import LossRules

log = logging.getLogger(__name__)

_REPETITIONS = 3
"""How many times Ultralytics repeats an epoch that ends in NaN."""

GENTLER = "a smaller lr0 and an optimizer other than auto, which ignores lr0"
"""The parameters that errors about a diverged training run recommend."""


class LossGuardMixin(ExactMixin):
    """Checks the loss of each batch if a rule needs it.

    Reading the loss does not make training wait for the GPU, because Ultralytics has just read the running
    losses for its progress bar.
    """

    lf: Callable[[int], float]
    """Returns, for an epoch counted from 0, the factor by which the initial learning rates are multiplied."""

    def __init__(self, overrides: dict[str, Any], rules: LossRules) -> None:
        self._rules = rules
        self._watch = LossWatch(rules)
        self._rate = 1.0
        self._roll_backs = 0
        self.epoch_starts: list[dict[str, Any]] = []
        """States that a rollback may return to, oldest first, in host memory; they never change."""
        super().__init__(overrides)
        if rules.needs_states:
            self.add_callback("on_train_epoch_start", LossGuardMixin._keep_epoch_start)
        if rules.needs_losses:
            self.add_callback("on_train_batch_end", LossGuardMixin._check_batch)

    def _setup_scheduler(self) -> None:
        super()._setup_scheduler()
        original = self.lf
        self.lf = lambda epoch: original(epoch) * self._rate  # warm-up reads self.lf too
        self.scheduler.lr_lambdas = [self.lf] * len(self.optimizer.param_groups)

    def _keep_epoch_start(self) -> None:
        """Copy the state at the start of this epoch to host memory, because training needs the GPU's memory.

        A repeated epoch keeps the state from before its first pass. In two more cases, an older state is kept
        instead of a new one: the last losses of the previous epoch may be the first of several that break a
        rule, or the attempt resumes within this epoch. If no rule needed a state before, an attempt that
        resumes within an epoch has no older one. It then keeps the state that it resumes from.
        """
        if self.epoch_starts and self.epoch_starts[-1]["epoch"] == self.epoch:
            return
        if self.epoch_starts and (self.train_loader.first_batch or self._watch.is_undecided):
            return
        epoch_start, wait = copy_to_host(
            {
                "epoch": self.epoch,
                "live": unwrap_model(self.model).state_dict(),
                "ema": self.ema.ema.state_dict(),
                "updates": self.ema.updates,
                "optimizer": self.optimizer.state_dict()["state"],
                "scaler": self.scaler.state_dict(),
            },
            self.device,
        )
        wait()
        # A new list, because the old one may be waiting to be written.
        self.epoch_starts = [*self.epoch_starts, epoch_start][-self._rules.states :]

    def _check_batch(self) -> None:
        ends_epoch = self._batch + 1 == len(self.train_loader)
        loss = self._average_loss()
        if ends_epoch and not self._has_finite_weights():
            loss = math.nan  # it was computed before the step that spoilt the weights
        finding = self._watch.check(loss, ends_epoch=ends_epoch)
        if finding is None:
            return
        what = f"The loss {finding.what}, in batch {self._batch + 1} of epoch {self.epoch + 1}"
        if finding.action is Action.WARN:
            log.warning("%s.", what)
        elif finding.action is Action.STOP:
            raise TrainingError(
                f"{what}, and {finding.rule}='stop'. Check the data, then start a new job with {GENTLER}; or "
                f"continue this one in a new job with resume_from and {finding.rule}='roll back'"
            )
        elif self._roll_backs == MOST_ROLL_BACKS:
            raise TrainingError(
                f"{what}, even after {MOST_ROLL_BACKS} rollbacks and at {self._rate:.2g} times the "
                f"planned learning rate. Check the data and the labels, then start a new job with {GENTLER}"
            )
        else:
            self._roll_back(what)

    def _average_loss(self) -> float:
        """Return the batch's total loss, averaged over all processes, and so the same in each of them."""
        loss = torch.stack([part.detach().float() for part in self.loss_items.values()]).sum().reshape(1)
        if RANK == -1:
            return float(loss)
        losses = [torch.empty_like(loss) for _ in range(dist.get_world_size())]
        dist.all_gather(losses, loss)
        return float(torch.cat(losses).mean())

    def _has_finite_weights(self) -> bool:
        """Return whether all parameters are finite.

        Buffers are not checked: they differ between processes, and all processes must make the same decision.
        """
        return are_finite(self.model.parameters())

    def _roll_back(self, what: str) -> None:
        epoch_start, self.epoch_starts = self.epoch_starts[0], []
        self._roll_backs += 1
        self._rate *= self._rules.rate
        log.warning(
            "%s: rolling back to the start of epoch %d, skipping the rest of this epoch, and continuing at "
            "%g times the planned learning rate (rollback %d of at most %d).",
            what,
            epoch_start["epoch"] + 1,
            self._rate,
            self._roll_backs,
            MOST_ROLL_BACKS,
        )
        unwrap_model(self.model).load_state_dict(epoch_start["live"])
        # A new EMA, as in Ultralytics' recovery: tensors that a validation has used cannot be written to.
        self.ema = ModelEMA(self.model)
        self.ema.ema.load_state_dict(epoch_start["ema"])
        self.ema.updates = epoch_start["updates"]
        # The groups keep their learning rates and momenta: warm-up may have progressed since that epoch.
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": deepcopy(epoch_start["optimizer"]), "param_groups": groups})
        if epoch_start["scaler"]:  # empty if that epoch began before amp was turned on
            self.scaler.load_state_dict(epoch_start["scaler"])
        self.optimizer.zero_grad()
        self._pending = 0
        self.train_loader.is_cut = True
        self._loader_epoch = None

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """Let Ultralytics repeat an epoch that ended in NaN, unless it was the first or was rolled back.

        Raises TrainingError if the weights are not finite after the first epoch, or if the loss is not finite
        after three repetitions of a later epoch.
        """
        if self.train_loader.is_cut:
            return False
        is_finite = self._has_finite_weights()
        if not is_finite:
            self.loss = torch.full_like(self.loss, math.nan)  # Ultralytics does not check weights
        try:
            repeat = super()._handle_nan_recovery(epoch)
        except RuntimeError as error:
            if self.nan_recovery_attempts <= _REPETITIONS:
                raise
            raise TrainingError(
                f"Epoch {epoch + 1} ended with a loss that is not a number, and so did its {_REPETITIONS} "
                "repetitions. Check the data and the labels, then start a new job with amp=false, or with "
                f"{GENTLER}; or continue this one in a new job with resume_from and on_nan='roll back'"
            ) from error
        if not repeat and not is_finite:
            raise TrainingError(
                "The weights became NaN or infinite in the first epoch, so there is no earlier state to "
                "go back to. Check the data and the labels, then start a new job with amp=false, or with "
                f"{GENTLER}"
            )
        return repeat

    # State

    def build_exact_state(self, batches: int) -> dict[str, Any]:
        """Add the state of the rules. `_save` adds `epoch_starts` without copying them: they never change."""
        watch = {"seen": self._watch.copy_state(), "rate": self._rate, "roll_backs": self._roll_backs}
        return super().build_exact_state(batches) | {LOSS_WATCH: watch}

    def resume_training(self, ckpt: dict[str, Any]) -> None:
        """Restore the training state and the state of the rules."""
        super().resume_training(ckpt)
        exact = ckpt.get(EXACT) or {}
        watch = exact.get(LOSS_WATCH, {})  # missing in states of versions without rules
        self._rate = watch.get("rate", 1.0)
        self._roll_backs = watch.get("roll_backs", 0)
        if "seen" in watch:
            self._watch.restore(watch["seen"])
        if self._rules.needs_states:
            self.epoch_starts = exact.get(BEGINNINGS, [])[-self._rules.states :]
