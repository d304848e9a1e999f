"""Plans a training run: checks its request, finds its model, and restores its state."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.checkpoints.checkpoint import Checkpoint
from include.checkpoints.keys import EXACT
from include.training.arguments import FILES, check_overrides
from include.training.contract import DeviceNotAvailable, GpuLost, TrainingError, TrainingResult, require_task
from include.training.devices import check_multi_gpu, choose_device, describe_device
from include.training.heartbeat import send_heartbeats
from include.training.loading import hand_over, load_training_state
from include.training.models import check_weights_arguments, resolve_model
from include.training.quiet import tame_ultralytics
from include.training.resume import restore
from include.trusted_folders import UntrustedFolder, require_trusted_folder

if TYPE_CHECKING:
    import torch

    from include.training.contract import EpochReporter, StateReporter, TrainingRequest
    from include.training.resumable import ResumableMixin
    from include.training.resume import RestoredState

_REPLACED = ("last.pt", "best.pt", "epoch-end.pt")
"""Files of save_dir/weights that a new training run removes before it starts."""


@contextmanager
def plan_training(request: TrainingRequest) -> Iterator[TrainingPlan]:
    """Check the request, prepare save_dir, and yield the plan. Raises TrainingError, GpuLost, DiskError."""
    _require_trusted(request.save_dir)  # before links in its path are resolved
    tame_ultralytics()
    with send_heartbeats(request.heartbeats):  # a GPU or a disk may hang already
        request = dataclasses.replace(
            request,
            data=request.data.resolve(),
            save_dir=request.save_dir.resolve(),
            device=_choose_device_for(request),
        )
        _check(request)
        plan = _prepare_plan(request)
    try:
        yield plan
    finally:
        if plan.restored is not None:
            plan.restored.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class TrainingPlan:
    """A training run that is ready to start, as plain values that can be sent to each GPU's process."""

    request: TrainingRequest
    """The complete request, with a device of this machine."""
    overrides: dict[str, Any]
    """The arguments for Ultralytics, except the device."""
    restored: RestoredState | None = None
    """The state that training continues from, if any."""

    @property
    def device(self) -> str:
        """The devices that `choose_device` chose; only the first if just the final validation is left."""
        device = str(self.request.device)
        return device.partition(",")[0] if self.only_validates else device

    @property
    def only_validates(self) -> bool:
        """Whether only the final validation is left."""
        return self.restored is not None and (self.restored.has_ended or self.restored.was_stopped)

    def build_trainer(self, reporter: EpochReporter, states: StateReporter | None = None) -> ResumableMixin:
        """Build the task's trainer. Raises TrainingError, and GpuLost if another machine's GPU is needed."""
        from include.training.trainers import TRAINERS

        request, overrides = self.request, self.overrides | {"device": self.device}
        trainer = TRAINERS[request.task](
            overrides, reporter, request.identity, self.restored, states, request.loss_rules
        )
        try:  # a resumed training run's arguments are complete only now
            check_multi_gpu(trainer.world_size, vars(trainer.args))
        except ValueError as error:
            raise TrainingError(str(error)) from None
        if trainer.args.amp == "bf16" and not self.only_validates:
            require_bfloat16(trainer.device, self.request)
        return trainer

    def train(self, reporter: EpochReporter, states: StateReporter | None = None) -> TrainingResult:
        """Train in this process. The result's seconds include set-up and the final validation."""
        started = time.monotonic()
        heartbeats = self.request.heartbeats
        with send_heartbeats(heartbeats) as heart:
            trainer = self.build_trainer(reporter, states)
            if heartbeats and heart:
                trainer.collective_timeout = heartbeats.rank_timeout
                heart.follow(trainer)
            trainer.train()
        return _build_result(trainer, seconds=time.monotonic() - started)


def _choose_device_for(request: TrainingRequest) -> str:
    """Choose the device.

    On a machine without a GPU, a state that was trained on one is recovered only if the request names the
    CPU; otherwise, this raises GpuLost.
    """
    try:
        device = choose_device(request.device)
    except DeviceNotAvailable:
        if not _had_gpu(request):
            raise
        device = "cpu"
    if device != "cpu" or request.device == "cpu" or not _had_gpu(request):
        return device
    raise GpuLost(
        f"{request.resume_from} was trained on a GPU, and this machine has no usable GPU: the training run "
        "continues on another machine. Give device=cpu to continue on a CPU"
    )


def require_bfloat16(device: torch.device, request: TrainingRequest) -> None:
    """Refuse a device that cannot compute in bfloat16.

    A training run that is recovered on a GPU has had one that can: this raises GpuLost. If the user has given
    `device=cpu`, no other machine helps: this raises TrainingError, as for a new training run.
    """
    import torch

    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return
    what = f"amp=bf16 does not work on {describe_device(device)}"
    if request.recover and device.type == "cuda":
        raise GpuLost(f"{what}: the training run continues on a machine with a newer GPU")
    if request.recover:
        raise TrainingError(f"{what}, and amp may not change within a job: omit device={request.device}")
    raise TrainingError(f"{what}; give amp=fp16, or use a GPU of compute capability 8.0 (Ampere) or later")


def _had_gpu(request: TrainingRequest) -> bool:
    if not request.recover or request.resume_from is None:
        return False
    state = load_training_state(request.resume_from, request.task)
    hand_over(request.resume_from, state)
    return "cuda" in state.get(EXACT, {}).get("profile", {})


def _check(request: TrainingRequest) -> None:
    """Refuse an invalid request now, not after minutes of preparation. Raises TrainingError."""
    try:
        check_overrides(request.arguments)
    except ValueError as error:
        raise TrainingError(str(error)) from None
    require_task(request.task)
    if request.task == "classify":
        if not (request.data / "train").is_dir():
            raise TrainingError(
                f"data={request.data} is not a dataset for classify; give a folder with train/ and val/, "
                "each with one folder of images for each class"
            )
    elif request.data.suffix not in {".yaml", ".yml"} or not request.data.is_file():
        raise TrainingError(f"data={request.data} is not a YAML file; give the path of the dataset's YAML")


def _require_trusted(save_dir: Path) -> None:
    """Refuse a folder in which another account could have left links or states."""
    try:
        for folder in (save_dir, save_dir / "weights"):
            if os.path.lexists(folder):
                require_trusted_folder(folder, remedy="give another save_dir")
    except UntrustedFolder as error:
        raise TrainingError(str(error)) from None


def _prepare_plan(request: TrainingRequest) -> TrainingPlan:
    """Plan a new training run, or the continuation of an earlier one."""
    check_weights_arguments(request.arguments)
    overrides: dict[str, Any] = {
        "task": request.task,
        "data": str(request.data),
        "save_dir": str(request.save_dir),
    }
    restored = restore(request, request.resume_from) if request.resume_from else None
    if restored is not None:
        overrides["resume"] = str(restored.path)
    else:
        overrides |= {**request.arguments, "model": resolve_model(request.model, request.task)}
        if request.epochs is not None:
            overrides["epochs"] = request.epochs
        _refuse_replaced_weights(request)
        _clear(request.save_dir)
    return TrainingPlan(request, overrides, restored)


def _refuse_replaced_weights(request: TrainingRequest) -> None:
    """Refuse to start from a file in save_dir that the new training run would remove before reading it."""
    replaced = {request.save_dir / "weights" / name for name in _REPLACED}
    given = {"model": request.model} | {name: request.arguments.get(name) for name in FILES}
    for name, value in given.items():
        path = Path(value) if isinstance(value, str) else None
        if path and replaced & {path.resolve(), path.parent.resolve() / path.name}:
            raise TrainingError(
                f"{name}={value} would be replaced by the new training run; give another save_dir, or copy "
                "the file elsewhere first"
            )


def _clear(save_dir: Path) -> None:
    """Remove the files of an earlier training run, so that they cannot be mistaken for this one's."""
    from include.training.saving import clear_staged

    for name in _REPLACED:
        (save_dir / "weights" / name).unlink(missing_ok=True)
    clear_staged(save_dir / "weights")
    # Otherwise Ultralytics would remove it, in several processes at once.
    (save_dir / "results.csv").unlink(missing_ok=True)


def _build_result(trainer: ResumableMixin, seconds: float) -> TrainingResult:
    from ultralytics import __version__

    metrics = dict(trainer.best_metrics)
    fitness = metrics.pop("fitness", None)
    return TrainingResult(
        best=Checkpoint.of_file(trainer.best, trainer.best_epoch),
        last=Checkpoint.of_file(trainer.last, trainer.epoch, trainer.batches),
        epoch=trainer.epoch,
        best_epoch=trainer.best_epoch,
        epochs=max(trainer.epochs, trainer.epoch + 1),
        start_epoch=trainer.start_epoch,
        metrics=metrics,
        fitness=fitness,
        stop_reason=trainer.stop_reason,
        seconds=seconds,
        device=describe_device(trainer.device),
        ultralytics_version=__version__,
    )
