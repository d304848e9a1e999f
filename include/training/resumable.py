"""The changes to Ultralytics' trainers that all tasks share, besides exact.py, loss_guard.py and states.py.

Each epoch is reported once, the error for a wrong argument or dataset is one sentence, and last.pt keeps its
training state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ultralytics.data.utils import check_det_dataset
from ultralytics.utils import LOCAL_RANK, RANK
from ultralytics.utils.torch_utils import torch_distributed_zero_first

from include.checkpoints.keys import BATCH, EXACT
from include.training.contract import DiskError, EpochReport, MemoryTaken, TrainingError, normalize_metrics
from include.training.devices import free_device
from include.training.drawing import draw_texts_as_they_are, tolerate_drawing_errors
from include.training.label_caches import describe_unreadable
from include.training.library_errors import (
    WRONG_INPUT,
    find_machine_fault,
    find_unreadable,
    format_error,
    is_out_of_host_memory,
    is_out_of_memory,
    recognize_killed_workers,
    reports_unreadable_images,
)
from include.training.loss_guard import GENTLER
from include.training.models import limit_model_size
from include.training.resumed_arguments import apply_changes, copy_optimizer_settings
from include.training.saving import link_or_copy, strip
from include.training.states import StateSavingMixin

if TYPE_CHECKING:
    from include.training.contract import EpochReporter, StateReporter, StopReason
    from include.training.loss_rules import LossRules
    from include.training.resume import RestoredState

_WRONG_INPUT = (*WRONG_INPUT, NotImplementedError)
"""Exceptions that Ultralytics raises during set-up if arguments and data do not match."""

_MOST_OOM_RETRIES = 3


class ResumableMixin(StateSavingMixin):
    """Reports each epoch once, and strips only best.pt.

    A mixin; it must be listed before one of Ultralytics' task trainers.
    """

    epochs: int
    """Planned number of epochs."""

    def __init__(
        self,
        overrides: dict[str, Any],
        reporter: EpochReporter,
        identity: Mapping[str, object],
        restored: RestoredState | None,
        states: StateReporter | None,
        loss_rules: LossRules,
    ) -> None:
        self._reporter = reporter
        self._epoch_metrics: Mapping[str, Any] = {}
        self._seconds: list[float] = []
        self._was_stopped = restored is not None and restored.was_stopped
        self._fits_memory_of = restored.fits_memory_of if restored else None
        self._changed = restored.changed if restored else ()
        self._has_ended = self._was_stopped or (restored is not None and restored.has_ended)
        self.batches = 0
        """Number of batches that last.pt includes after `epoch`; 0 unless training was stopped within an
        epoch."""
        self.best_metrics: dict[str, float | None] = {}
        """Metrics of the final validation."""
        try:
            super().__init__(overrides, identity, restored, states, loss_rules)
        except _WRONG_INPUT as error:
            raise TrainingError(f"This training run cannot be set up: {format_error(error)}") from error
        if restored and restored.inexact_reason:
            self.mark_inexact(restored.inexact_reason)
        self.add_callback("on_train_epoch_start", ResumableMixin._keep_batch)
        self.add_callback("on_fit_epoch_end", ResumableMixin._report_epoch)

    def train(self) -> None:
        """Train, then stop the loader processes, whether or not training succeeded.

        After an error, also free the device's memory. Raises TrainingError if memory runs out in the first
        epoch with this batch size; on a single GPU, Ultralytics first halves the size up to three times.
        Raises MemoryTaken if memory runs out although earlier epochs were trained with this batch size.
        Raises DiskError if an image or its labels can no longer be read, or if shared memory is full,
        GpuLost if the GPU fails, and ProcessKilled if a loader worker was killed.
        """
        try:
            with recognize_killed_workers():
                self._train()
        finally:
            for name in ("train_loader", "test_loader"):
                loader = getattr(self, name, None)
                if loader is not None:
                    loader.close()

    def _train(self) -> None:
        try:
            if self._has_ended:
                self._setup_train()
                self.final_eval()
            else:
                with self.state_writer:
                    super().train()
        except BaseException as error:
            free_device(self, error)
            if file := find_unreadable(error):
                raise describe_unreadable(f"Images or labels of data={self.args.data} ({file})") from error
            if fault := find_machine_fault(error):
                raise fault from error
            if not is_out_of_memory(error):
                raise
            on_host = self.device.type != "cpu" and is_out_of_host_memory(error)
            where = "this machine" if on_host else self.device
            what = f"{where} ran out of memory with batch={self.batch_size} and imgsz={self.args.imgsz}"
            if self._fits_memory or getattr(self, "epoch", 0) > self.start_epoch:
                raise MemoryTaken(
                    f"{what}, although epochs have already been trained with these values: another program "
                    "is using the memory. Training continues when the memory is free, or on another machine"
                ) from error
            remedy = "set fewer workers, or cache to false or disk" if on_host else "use a smaller model"
            raise TrainingError(f"{what}; reduce batch or imgsz, or {remedy}") from error

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> Any:
        """Build the model. Raises TrainingError if it is too large."""
        with limit_model_size(weights):
            return super().get_model(cfg=cfg, weights=weights, verbose=verbose)

    def get_dataset(self) -> dict[str, Any]:
        """Read the dataset's description, without downloading. Raises TrainingError if it is wrong."""
        with self._data_errors():
            if self.args.task != "classify":
                # Fails if images are missing; Ultralytics would then run the YAML's `download`, even a script
                check_det_dataset(self.args.data, autodownload=False, split=self.args.split)
            data: dict[str, Any] = super().get_dataset()
        return data

    def get_dataloader(self, *args: Any, **options: Any) -> Any:
        """Read the labels and build a loader.

        Raises TrainingError if there is nothing to load, and DiskError if images or labels cannot be read.
        """
        with self._data_errors():
            return super().get_dataloader(*args, **options)

    @contextmanager
    def _data_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Ultralytics wraps most errors in RuntimeError
            is_temporary = isinstance(error, OSError | DiskError) and not isinstance(error, FileNotFoundError)
            if is_temporary or is_out_of_memory(error):
                raise
            if reports_unreadable_images(error):
                raise describe_unreadable(
                    f"All images of a split of data={self.args.data}, or their labels,"
                ) from None  # Ultralytics' message may quote a file
            raise TrainingError(
                f"data={self.args.data} cannot be trained on: {format_error(error)}"
            ) from error

    def _setup_train(self) -> None:
        try:
            super()._setup_train()
        except _WRONG_INPUT as error:
            raise TrainingError(f"This training run cannot be set up: {format_error(error)}") from error

    def save_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Append the epoch's metrics to results.csv, and keep them for the report."""
        self._epoch_metrics = metrics
        super().save_metrics(metrics)

    def resume_training(self, ckpt: dict[str, Any] | None) -> None:
        """Restore the state; if training has ended, restore only what the final validation needs.

        Ultralytics also calls this when nothing is resumed, with the initial weights or None.
        """
        if ckpt is None or not self.resume:
            return
        if not self._has_ended:
            fresh = copy_optimizer_settings(self.optimizer)
            super().resume_training(ckpt)
            apply_changes(self._changed, fresh, self.optimizer)
            return
        self.epoch, self.start_epoch = ckpt["epoch"], ckpt["epoch"] + 1
        self.batches = ckpt[EXACT].get(BATCH, 0)
        self.fitness = ckpt["train_metrics"]["fitness"]
        self.best_fitness = ckpt["best_fitness"]
        self.stopper.__dict__.update(ckpt["stopper"])
        self.inexact_reason = ckpt[EXACT]["inexact_reason"]

    def validate(self) -> Any:
        """Validate as Ultralytics does, which with `plots` draws pictures in the last epoch."""
        if self.args.plots:
            draw_texts_as_they_are()
        return super().validate()

    def plot_training_labels(self) -> None:
        """Do nothing, because the first batch would wait a second for this; `final_eval` draws the labels."""

    def final_eval(self) -> None:
        """Strip and validate best.pt; do not strip last.pt, as Ultralytics would.

        Ultralytics would also report the validation as another epoch.
        """
        self.state_writer.flush()
        with torch_distributed_zero_first(LOCAL_RANK):  # the other ranks wait, because rank 0 writes best.pt
            if RANK in {-1, 0}:
                self._finish_best()
        self.validator.args.plots = self.args.plots
        self.validator.args.compile = False
        # As after a training epoch. An attempt that only validates would otherwise measure in full precision.
        self.validator.args.quantize = 16 if self.amp and self.device.type != "cpu" else None
        self.best_metrics = normalize_metrics(self.validator(model=self.best))

    def _finish_best(self) -> None:
        """Strip best.pt and, with `plots`, draw the training labels. Raises TrainingError without it."""
        if not self.best.exists() and self._was_stopped and self.last.exists():
            link_or_copy(self.last, self.best)  # stopped in the first epoch: there is nothing better
        if not self.best.exists():
            raise TrainingError(
                "The fitness was NaN in every epoch, so there is no best.pt: training diverged. Check the "
                f"labels, then start a new job with {GENTLER}"
            )
        epoch = strip(self.best, self.best, self.read_results_csv())
        self.best_epoch = epoch if epoch >= 0 else self.best_epoch
        if self.args.plots:
            draw_texts_as_they_are()
            with tolerate_drawing_errors("The distribution of the labels"):
                super().plot_training_labels()

    def plot_metrics(self) -> None:
        """Draw the curves of results.csv."""
        with tolerate_drawing_errors("The curves of the training run"):
            super().plot_metrics()

    @property
    def stop_reason(self) -> StopReason:
        """Why the training loop ended."""
        if self._was_stopped:
            return "stopped"
        if not self.args.time and self.epoch + 1 >= self.epochs:
            return "completed"
        waited = self.epoch + 1 - self.stopper.best_epoch
        if self.fitness is not None and waited >= self.stopper.patience:
            return "early_stopping"
        return "time_budget"

    @property
    def _fits_memory(self) -> bool:
        """Whether earlier epochs were trained with this batch size and image size on this kind of device."""
        return self._fits_memory_of is not None and self._fits_memory_of == self.profile.get("device")

    def _keep_batch(self) -> None:
        """Use up Ultralytics' retries, so that it does not halve a batch that fitted in memory before."""
        if self._fits_memory:
            self._oom_retries = _MOST_OOM_RETRIES

    def _report_epoch(self) -> None:
        seconds = self.seconds_before + self.epoch_time
        self._seconds.append(seconds)
        remaining = 0 if self.stop else max(self.epochs - self.epoch - 1, 0)
        validated = self.fitness is not None
        go_on = self._reporter.report(
            EpochReport(
                epoch=self.epoch,
                epochs=max(self.epochs, self.epoch + 1),
                metrics=normalize_metrics(
                    {
                        k: v
                        for k, v in self._epoch_metrics.items()
                        if validated or k.startswith(("train/", "lr/"))
                    }
                ),
                fitness=normalize_metrics({"fitness": self.fitness})["fitness"] if validated else None,
                seconds=seconds,
                eta_seconds=remaining * sum(self._seconds) / len(self._seconds),
                is_best=self.best_fitness == self.fitness,
                inexact_reason=self.inexact_reason,
                trained_seconds=self.trained_seconds,
            )
        )
        if not go_on and not self.stop:
            self._was_stopped = self.stop = True
