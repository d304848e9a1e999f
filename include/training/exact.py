"""A training that can be interrupted after any batch and goes on to the same bits.

Ultralytics' own resume rounds the weights, forgets the gradient that is being accumulated, and draws other
random numbers. Here the state is kept in full precision, accumulation goes on where it was, and randomness is
a function of (seed, epoch, batch or sample), so that no generator's state has to be kept.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.utils.torch_utils import unwrap_model

from include.checkpoints.keys import BATCH, EXACT
from include.training.order import fix_order, seed_of, seed_samples
from include.training.profile import differences, numeric_profile

if TYPE_CHECKING:
    from include.training.order import EpochOrder, FromBatch

log = logging.getLogger(__name__)


class Exact(BaseTrainer):  # type: ignore[misc]
    """Keeps and restores the complete state, and makes each epoch depend on nothing else.

    inexact_reason is None as long as the guarantee holds, or the sentence that says why it does not.
    """

    epoch: int
    start_epoch: int
    tloss: dict[str, torch.Tensor] | None
    loss: torch.Tensor
    collective_timeout = timedelta(minutes=40)
    """How long ranks wait for each other. It must outlast what rank 0 does alone: scan the labels, fill the
    caches, sum up a validation, write the state."""

    def __init__(self, overrides: dict[str, Any]) -> None:
        self.inexact_reason: str | None = None
        self.profile: dict[str, str | int] = {}
        self._accumulate = 1
        self._pending = 0  # batches whose gradient waits for an optimizer step
        self._in_batch = False
        self._batch = -1
        self._resumed_batches = 0  # of the first epoch, that went into the state
        self._resumed_losses: dict[str, torch.Tensor] | None = None
        self._resumed_rates: list[float] = []
        self._gradients: Mapping[str, torch.Tensor] = {}
        self._loader_epoch: int | None = None
        super().__init__(overrides=overrides)
        self.add_callback("on_train_epoch_start", Exact._begin_epoch)
        self.add_callback("on_train_batch_start", Exact._begin_batch)
        self.add_callback("on_train_batch_end", Exact._end_batch)
        self.add_callback("on_train_epoch_end", Exact._end_epoch_without_batches)

    # Data

    def get_dataloader(
        self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train"
    ) -> FromBatch:
        """Build a loader whose samples and order depend on seed and epoch alone."""
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
        return loader  # type: ignore[no-any-return]

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Seed what the batch itself draws: its size with multi_scale, equal on all GPUs; dropout."""
        batch_seed = seed_of("batch", self.args.seed, self.epoch, self._batch)
        random.seed(batch_seed)
        torch.manual_seed(seed_of(batch_seed, self._order.rank))
        return super().preprocess_batch(batch)  # type: ignore[no-any-return]

    def _close_dataloader_mosaic(self) -> None:
        super()._close_dataloader_mosaic()
        self._begin_order()  # Ultralytics resets the loader now, with what it had prefetched

    def _align_loader(self) -> None:
        """Let the loader deliver this epoch: after a resume and a repeated epoch it would another."""
        if self._loader_epoch != self.epoch:
            self.train_loader.reset()
            self._begin_order()
        self._loader_epoch = self.epoch + 1

    def _begin_order(self) -> None:
        self._order.begin_at(self.epoch, self.train_loader.first_batch * self.train_loader.batch_size)

    # Gradient accumulation

    @property
    def accumulate(self) -> float:
        """Batches to an optimizer step. In a batch: none or infinitely many, as it is due after it or not.

        Ultralytics compares it with a count that begins anew with each attempt.
        """
        if not self._in_batch:
            return self._accumulate
        return 0 if self._pending >= self._accumulate else math.inf

    @accumulate.setter
    def accumulate(self, batches: int) -> None:
        self._accumulate = batches

    def optimizer_step(self) -> None:
        """Step, and begin to count anew."""
        super().optimizer_step()
        self._pending = 0

    def _begin_epoch(self) -> None:
        self.train_loader.first_batch, self._resumed_batches = self._resumed_batches, 0
        self.train_loader.is_cut = False
        self._batch, self._in_batch = self.train_loader.first_batch - 1, False
        self._align_loader()
        if self._gradients:  # here and not on resume, because Ultralytics zeroes them before the first epoch
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
        """End an epoch of which all batches had been trained before: as the last of them left it."""
        if self._resumed_losses is None:
            return
        self._restore_losses()
        for group, rate in zip(self.optimizer.param_groups, self._resumed_rates, strict=True):
            group["lr"] = rate
        self.lr = {f"lr/pg{number}": rate for number, rate in enumerate(self._resumed_rates)}

    def _restore_losses(self) -> None:
        """Go on with the running losses. Here, because Ultralytics forgets them before the first batch."""
        if self._resumed_losses is not None:
            self.tloss, self._resumed_losses = self._resumed_losses, None

    def _build_train_pipeline(self) -> None:
        halved = self._in_batch  # Ultralytics starts over with half a batch where memory ran out
        self._in_batch, self._pending = False, 0
        super()._build_train_pipeline()
        if halved:
            self.leave_guarantee(f"memory ran out and the batch was halved to {self.batch_size}")

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """Repeat an epoch that ended in NaN, also the first one after a resume: last.pt is there then."""
        begun, self.start_epoch = self.start_epoch, min(self.start_epoch, 0)
        try:
            repeat = bool(super()._handle_nan_recovery(epoch))
        finally:
            self.start_epoch = begun
        if repeat:
            self._pending = 0
            criterion = unwrap_model(self.model).criterion
            if hasattr(criterion, "update"):  # it has been, for the epoch that is repeated
                criterion.updates = epoch - 1
                criterion.update()
        return repeat

    # State

    def exact_state(self, batches: int) -> dict[str, Any]:
        """Return what Ultralytics' checkpoint lacks, as tensors and plain values; not copied.

        batches is how many of an epoch went into it that has not ended.
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

    def leave_guarantee(self, reason: str) -> None:
        """Say once that from here on an interrupted run may differ from an uninterrupted one."""
        if self.inexact_reason is None:
            self.inexact_reason = reason
            log.warning("Outside the guarantee of equal weights: %s.", reason)

    def _setup_ddp(self) -> None:
        super()._setup_ddp()
        torch.distributed.set_timeout(self.collective_timeout)  # Ultralytics: three hours

    def _setup_train(self) -> None:
        self.profile = numeric_profile(self.device) | {"processes": max(self.world_size, 1)}
        super()._setup_train()
        for reason in self._dependences():
            self.leave_guarantee(reason)

    def _dependences(self) -> list[str]:
        """Arguments that make the result depend on the machine."""
        arguments = {
            f"time={self.args.time} ends the training by the clock": self.args.time,
            "deterministic=false lets a GPU compute in any order": (
                self.device.type != "cpu" and not self.args.deterministic
            ),
        }
        return [reason for reason, given in arguments.items() if given]

    def auto_batch(self, *args: Any, **options: Any) -> int:
        """Let Ultralytics choose the batch by this machine's memory."""
        chosen = int(super().auto_batch(*args, **options))
        self.leave_guarantee(f"batch={self.batch_size} was chosen by this machine's memory: {chosen}")
        return chosen

    def resume_training(self, ckpt: dict[str, Any] | None) -> None:
        """Restore Ultralytics' part of the state, then ours over it."""
        if ckpt is None or not self.resume:
            return
        if ckpt["epoch"] >= 0:
            super().resume_training(ckpt)
        else:
            self._load_checkpoint_state(ckpt)  # what Ultralytics does for later epochs only
            self.start_epoch = 0
        exact = ckpt.get(EXACT)
        if exact is None:
            self.leave_guarantee("the last.pt that was resumed is none of ours: its weights are rounded")
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
            log.warning("The data or the batch are others than before: the epoch begins anew.")
            self._gradients, self._pending = {}, 0
            return
        self._resumed_batches = batches
        self._resumed_losses = {name: loss.to(self.device) for name, loss in exact["losses"].items()}
        self.loss_names, self.loss_items = tuple(self._resumed_losses), self._resumed_losses
        self.loss = exact["loss"].to(self.device)
        self._resumed_rates = [group["lr"] for group in ckpt["optimizer"]["param_groups"]]
        model = unwrap_model(self.model)
        if getattr(model, "criterion", None) is None:
            model.criterion = model.init_criterion()  # where no batch is left, nothing else makes it
        # What the epoch before was like is in the states within this one, too.
        self.metrics = {name: value for name, value in ckpt["train_metrics"].items() if name != "fitness"}
        self.fitness = ckpt["train_metrics"]["fitness"]

    def _restore_profile(self, before: Mapping[str, str | int]) -> None:
        """Compute with as many threads as before; say what else is different on this machine."""
        torch.set_num_threads(int(before["threads"]))
        self.profile["threads"] = torch.get_num_threads()
        if changed := differences(before, self.profile):
            self.leave_guarantee(f"epoch {self.start_epoch + 1} goes on with {', '.join(changed)}")
