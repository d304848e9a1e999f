"""A training run that can be interrupted after any batch, and ends bit-identical to an uninterrupted one.

Ultralytics' own resume rounds the weights, loses the gradient that is being accumulated, and draws different
random numbers. Here the state is kept in full precision, and gradient accumulation continues. Randomness is a
function of (seed, epoch, batch or sample), so no generator's state has to be saved.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.utils.torch_utils import unwrap_model

from include.checkpoints.keys import BATCH, EXACT
from include.training.profile import list_differences, read_numeric_profile
from include.training.randomness import OWN, derive_seed
from include.training.resumable_loader import fix_order, seed_samples

if TYPE_CHECKING:
    from include.training.randomness import EpochOrder
    from include.training.resumable_loader import ResumableLoader

log = logging.getLogger(__name__)

_START_FACTOR = 14
"""How many times as long ranks wait for each other before training starts, while one of them reads labels or
caches images. The watchdog notices a hang earlier: it waits up to 13 times as long as elsewhere."""


class ExactMixin(BaseTrainer):
    """Saves and restores the complete state, and makes each epoch depend on that state alone."""

    epoch: int
    """The current epoch, or the last finished one, from 0; Ultralytics sets it when an epoch begins."""
    start_epoch: int
    """First epoch of this attempt, counted from 0."""
    tloss: dict[str, torch.Tensor] | None
    """Mean of each loss over the batches of the current epoch, by name; None before its first batch."""
    loss: torch.Tensor
    """Sum of the losses of the last batch."""
    collective_timeout = timedelta(minutes=40)
    """How long ranks wait for each other during training, unless Heartbeats sets another time. This must
    exceed the duration of the work that rank 0 does alone: computing validation metrics, and writing a
    state."""

    def __init__(self, overrides: dict[str, Any]) -> None:
        self.inexact_reason: str | None = None
        """Why the guarantee of equal weights no longer holds; None as long as it does."""
        self.profile: dict[str, str | int] = {}
        """The numeric profile of this attempt, and its number of processes; empty until set-up."""
        self._accumulate = 1
        self._pending = 0  # batches whose gradient waits for an optimizer step
        self._in_batch = False
        self._batch = -1
        self._resumed_batches = 0  # batches of this attempt's first epoch that earlier attempts trained
        self._resumed_losses: dict[str, torch.Tensor] | None = None
        self._resumed_rates: list[float] = []
        self._gradients: Mapping[str, torch.Tensor] = {}
        self._loader_epoch: int | None = None
        super().__init__(overrides=overrides)
        self.add_callback("on_train_start", ExactMixin._limit_waits)
        self.add_callback("on_train_epoch_start", ExactMixin._begin_epoch)
        self.add_callback("on_train_batch_start", ExactMixin._begin_batch)
        self.add_callback("on_train_batch_end", ExactMixin._end_batch)
        self.add_callback("on_train_epoch_end", ExactMixin._end_epoch_without_batches)

    # Data

    def get_dataloader(
        self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train"
    ) -> ResumableLoader:
        """Build a loader whose samples and order depend on seed and epoch, not on earlier random numbers."""
        loader = super().get_dataloader(dataset_path, batch_size, rank, mode)
        if mode == "train":
            self._order: EpochOrder = seed_samples(
                loader,
                self.args.seed,
                rank=max(rank, 0),
                replicas=max(self.world_size, 1),
                on_gpu=self.device.type not in {"cpu", "mps"},
            )
            self._loader_epoch = None
        else:
            fix_order(loader, self.args.seed)
        return loader

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Preprocess a batch, after seeding the random numbers for dropout and multi_scale.

        multi_scale draws the image size from OWN. Its seed is the same on all GPUs, as the size has to be.
        """
        batch_seed = derive_seed("batch", self.args.seed, self.epoch, self._batch)
        OWN.seed(batch_seed)
        torch.manual_seed(derive_seed(batch_seed, self._order.rank))
        return super().preprocess_batch(batch)

    def _close_dataloader_mosaic(self) -> None:
        super()._close_dataloader_mosaic()
        self._begin_order()  # Ultralytics now resets the loader and discards prefetched batches

    def _align_loader(self) -> None:
        """Make the loader deliver this epoch: it would deliver another after a resume or a repeated epoch."""
        if self._loader_epoch != self.epoch:
            self.train_loader.reset()
            self._begin_order()
        self._loader_epoch = self.epoch + 1

    def _begin_order(self) -> None:
        self._order.start_at(self.epoch, self.train_loader.first_batch * self.train_loader.batch_size)

    # Gradient accumulation

    @property
    def accumulate(self) -> float:
        """The number of batches per optimizer step; during a batch, 0 if a step is due, else infinity.

        Ultralytics compares this number with its own count of the batches since the last step. That count
        restarts with each attempt, so `_pending` decides instead.
        """
        if not self._in_batch:
            return self._accumulate
        return 0 if self._pending >= self._accumulate else math.inf

    @accumulate.setter
    def accumulate(self, batches: int) -> None:
        self._accumulate = batches

    def optimizer_step(self) -> None:
        """Step, and reset the count of pending batches."""
        super().optimizer_step()
        self._pending = 0

    def _begin_epoch(self) -> None:
        self.train_loader.first_batch, self._resumed_batches = self._resumed_batches, 0
        self.train_loader.is_cut = False
        self._batch, self._in_batch = self.train_loader.first_batch - 1, False
        self._align_loader()
        if self._gradients:  # only now, because Ultralytics zeroes gradients after resume_training
            for name, parameter in unwrap_model(self.model).named_parameters():
                if name in self._gradients:
                    parameter.grad = self._gradients[name].to(parameter.device, copy=True)
            self._gradients = {}

    def _begin_batch(self) -> None:
        self._restore_losses()
        self._batch += 1
        self._pending += 1
        self._in_batch = True

    def _end_batch(self) -> None:
        self._in_batch = False

    def _end_epoch_without_batches(self) -> None:
        """Restore losses and learning rates if all batches of this epoch were trained before the resume."""
        if self._resumed_losses is None:
            return
        self._restore_losses()
        for group, rate in zip(self.optimizer.param_groups, self._resumed_rates, strict=True):
            group["lr"] = rate
        self.lr = {f"lr/pg{number}": rate for number, rate in enumerate(self._resumed_rates)}

    def _restore_losses(self) -> None:
        """Restore the running losses, after Ultralytics has reset them just before the first batch."""
        if self._resumed_losses is not None:
            self.tloss, self._resumed_losses = self._resumed_losses, None

    def _build_train_pipeline(self) -> None:
        halved = self._in_batch  # if memory runs out in a batch, Ultralytics starts over with half the size
        self._in_batch, self._pending = False, 0
        if self.args.compile:  # on a machine without a compiler, Ultralytics trains without it
            is_compiled = hasattr(getattr(self.model, "module", self.model), "_orig_mod")
            self.profile["model"] = "compiled" if is_compiled else "not compiled"
        super()._build_train_pipeline()
        if halved:
            self.mark_inexact(f"memory ran out and the batch size was halved to {self.batch_size}")

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """Repeat an epoch that ended in NaN, even the first one after a resume: last.pt exists by then."""
        start_epoch, self.start_epoch = self.start_epoch, min(self.start_epoch, 0)
        try:
            repeat = bool(super()._handle_nan_recovery(epoch))
        finally:
            self.start_epoch = start_epoch
        if repeat:
            self._pending = 0
            criterion = unwrap_model(self.model).criterion
            if hasattr(criterion, "update"):  # undo its update at the end of this epoch
                criterion.updates = epoch - 1
                criterion.update()
        return repeat

    # State

    def build_exact_state(self, batches: int) -> dict[str, Any]:
        """Return the state that Ultralytics' checkpoint lacks: plain values, and tensors that are not copied.

        `batches` is how many batches of an unfinished epoch the state includes; 0 between epochs.
        """
        model = unwrap_model(self.model)
        gradients = model.named_parameters() if self._pending else ()
        return {
            "live": model.state_dict(),
            "ema": self.ema.ema.state_dict(),
            "gradients": {name: p.grad for name, p in gradients if p.grad is not None},
            "pending": self._pending,
            BATCH: batches,
            "batches": len(self.train_loader),
            "batch_size": self.batch_size,
            "losses": self.tloss if batches else None,
            "loss": self.loss.detach() if batches else None,
            "profile": self.profile,
            "inexact_reason": self.inexact_reason,
        }

    def mark_inexact(self, reason: str) -> None:
        """Record and log the first reason why an interrupted run may differ from an uninterrupted one."""
        if self.inexact_reason is None:
            self.inexact_reason = reason
            log.warning("Identical weights are no longer guaranteed: %s.", reason)

    def _setup_ddp(self) -> None:
        super()._setup_ddp()
        torch.distributed.set_timeout(_START_FACTOR * self.collective_timeout)

    def _limit_waits(self) -> None:
        if torch.distributed.is_initialized():
            torch.distributed.set_timeout(self.collective_timeout)

    def _setup_train(self) -> None:
        self.profile = read_numeric_profile(self.device) | {"processes": max(self.world_size, 1)}
        super()._setup_train()
        if self.args.time:
            self.mark_inexact(f"time={self.args.time} ends training after a fixed time, not after all epochs")
        if self.device.type != "cpu" and not self.args.deterministic:
            self.mark_inexact("deterministic=false lets a GPU compute in any order")

    def auto_batch(self, *args: Any, **options: Any) -> int:
        """Let Ultralytics choose a batch size for this machine's memory, which makes the result inexact."""
        chosen = int(super().auto_batch(*args, **options))
        self.mark_inexact(
            f"batch={self.batch_size} let Ultralytics choose batch size {chosen} to fit this machine's memory"
        )
        return chosen

    def resume_training(self, ckpt: dict[str, Any]) -> None:
        """Restore Ultralytics' part of the state, then overwrite it with this project's part."""
        if ckpt["epoch"] >= 0:
            super().resume_training(ckpt)
        else:
            self._load_checkpoint_state(ckpt)  # Ultralytics does this only if an epoch has ended
            self.start_epoch = 0
        exact = ckpt.get(EXACT)
        if exact is None:
            self.mark_inexact("the resumed last.pt is from plain Ultralytics, which rounds the weights")
            return
        unwrap_model(self.model).load_state_dict(exact["live"])
        self.ema.ema.load_state_dict(exact["ema"])
        self._gradients, self._pending = exact["gradients"], exact["pending"]
        self._resume_within_epoch(ckpt, exact)
        self._restore_profile(exact["profile"])
        if exact["inexact_reason"]:
            self.inexact_reason = exact["inexact_reason"]

    def _resume_within_epoch(self, ckpt: Mapping[str, Any], exact: Mapping[str, Any]) -> None:
        batches = exact.get(BATCH, 0)
        if not batches:
            return
        if (exact["batches"], exact["batch_size"]) != (len(self.train_loader), self.batch_size):
            self.mark_inexact(
                f"the data or the batch size changed, so epoch {self.start_epoch + 1} restarted"
            )
            self._gradients, self._pending = {}, 0
            return
        self._resumed_batches = batches
        self._resumed_losses = {name: loss.to(self.device) for name, loss in exact["losses"].items()}
        self.loss_names, self.loss_items = tuple(self._resumed_losses), self._resumed_losses
        self.loss = exact["loss"].to(self.device)
        self._resumed_rates = [group["lr"] for group in ckpt["optimizer"]["param_groups"]]
        model = unwrap_model(self.model)
        if getattr(model, "criterion", None) is None:
            model.criterion = model.init_criterion()  # the first batch would create it, but none may be left
        # States within this epoch also carry the metrics of the previous one.
        self.metrics = {name: value for name, value in ckpt["train_metrics"].items() if name != "fitness"}
        self.fitness = ckpt["train_metrics"]["fitness"]

    def _restore_profile(self, before: Mapping[str, str | int]) -> None:
        """Use as many threads as before; mark the run inexact if the machine differs in other ways."""
        torch.set_num_threads(int(before["threads"]))
        self.profile["threads"] = torch.get_num_threads()
        if changed := list_differences(before, self.profile):
            self.mark_inexact(f"epoch {self.start_epoch + 1} continues with {', '.join(changed)}")
