"""Train with this project in child processes, and compare the final states."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from benchmarks.gpu.child import kill_own_group
from benchmarks.gpu.photographs import many_photographs
from include.checkpoints.keys import EXACT
from include.training.contract import TrainingRequest

if TYPE_CHECKING:
    import torch

    from benchmarks.gpu.place import Place
    from include.training.contract import EpochReport, SavedState, TrainingProgress
    from include.training.resumable import ResumableMixin
    from include.ultralytics_tasks import Task

_NONDETERMINISTIC = re.compile(r"(\w+) does not have a deterministic implementation|(CuBLAS)")


class SilentReporter:
    """Ignores epochs and states (an EpochReporter and StateReporter).

    A state is saved every `batches` batches; with 0, only at the end of each epoch.
    """

    def __init__(self, batches: int = 0) -> None:
        self._batches = batches

    def report(self, epoch: EpochReport) -> bool:
        """Continue."""
        return True

    def report_progress(self, progress: TrainingProgress) -> bool:
        """Return whether a state is due."""
        return self._batches > 0 and progress.batch % self._batches == 0

    def report_state(self, state: SavedState) -> None:
        """Ignore the state."""


@dataclass(frozen=True)
class TrainingRun:
    """The settings of a training run, named as in Ultralytics."""

    task: Task
    model: str
    data: Path
    folder: Path
    epochs: int
    device: str
    workers: int = 0
    """Number of loader workers, even on a CPU."""
    arguments: Mapping[str, object] = field(default_factory=dict)
    recover: bool = False
    save_batches: int = 0
    """Number of batches between two saved states within an epoch; 0 saves only at the end of each epoch."""

    @classmethod
    def of_many(cls, place: Place, folder: Path, epochs: int, model: str = "yolo11n") -> Self:
        """Return a training run on many photographs, in large batches and with 8 workers on a GPU."""
        arguments = {"imgsz": 64, "batch": 4} if place.quick else {"imgsz": 640, "batch": 64}
        return cls(
            "detect", place.architecture("detect", model), many_photographs(place), folder, epochs,
            place.device, 8 if place.on_gpu else 0, arguments,
        )  # fmt: skip

    @property
    def last(self) -> Path:
        """The path of the state: last.pt."""
        return self.folder / "weights" / "last.pt"

    def request(self) -> TrainingRequest:
        """Return the request for include.training."""
        request = TrainingRequest(
            task=self.task,
            model=self.model,
            data=self.data,
            save_dir=self.folder,
            epochs=self.epochs,
            device=self.device,
            arguments={"plots": False, **self.arguments},
            identity={"benchmark": self.task},
        )
        if not self.recover:
            return request
        best = self.last.with_name("best.pt")
        best_from = best if best.exists() else None
        return replace(request, resume_from=self.last, best_from=best_from, recover=True)

    @contextmanager
    def trainer(self) -> Iterator[ResumableMixin]:
        """Yield the trainer of this training run."""
        from include.training.run import build_trainer

        reporter = SilentReporter(self.save_batches)
        with build_trainer(self.request(), reporter, reporter) as trainer:
            trainer.args.workers = self.workers
            yield trainer

    def train(self, plain: bool, prepare: Callable[[Any], None]) -> None:
        """Train, with plain Ultralytics or with ours; `prepare` adds callbacks to the model or trainer."""
        if not plain:
            with self.trainer() as trainer:
                prepare(trainer)
                trainer.train()
            return
        from ultralytics import YOLO

        model = YOLO(self.model if self.model.endswith(".yaml") else f"{self.model}.yaml")
        prepare(model)
        model.train(
            data=str(self.data), epochs=self.epochs, device=self.device, workers=self.workers,
            project=str(self.folder.parent), name=self.folder.name, plots=False, **self.arguments,
        )  # fmt: skip


@dataclass(frozen=True)
class FinalState:
    """The final state of a training run."""

    digests: Mapping[str, str]
    """The hash of each part."""
    pending: int
    """Number of batches whose gradients wait for an optimizer step."""
    inexact_reason: str | None
    """Why the weights may differ from those of an uninterrupted training run, if they may."""
    nondeterministic: tuple[str, ...] = ()
    """Operators that warned about being nondeterministic."""


def train_to_the_end(training: TrainingRun) -> FinalState:
    """Train, and return the final state."""
    with training.trainer() as trainer, nondeterministic_operators() as operators:
        trainer.train()
    return replace(read_final_state(training), nondeterministic=tuple(sorted(operators)))


def train_until_killed(training: TrainingRun, epoch: int, batch: int) -> None:
    """Train; kill this process and its loader workers after that batch. `epoch` and `batch` count from 0.

    If no state has been saved by then, the kill waits until there is one to resume from.
    """

    def kill(trainer: ResumableMixin) -> None:
        done.append(trainer.epoch)
        if trainer.epoch == epoch and done.count(epoch) > batch and training.last.exists():
            kill_own_group()

    done: list[int] = []
    with training.trainer() as trainer:
        trainer.add_callback("on_train_batch_end", kill)
        trainer.train()
    raise AssertionError(f"The training run ended before batch {batch + 1} of epoch {epoch + 1}")


def read_final_state(training: TrainingRun) -> FinalState:
    """Read the final state of a training run."""
    from include.training.loading import load_training_state

    state = load_training_state(training.last)
    exact = state[EXACT]
    parts = {"live": exact["live"], "ema": exact["ema"], "optimizer": state["optimizer"]}
    digests = {name: hash_state(part) for name, part in parts.items()}
    return FinalState(digests, exact["pending"], exact["inexact_reason"])


def hash_state(part: object) -> str:
    """Return the SHA-256 of nested tensors and plain values, over their names, types and bits."""
    digest = hashlib.sha256()
    for name, value in _flat("", part):
        digest.update(f"{name} ".encode())
        if hasattr(value, "numpy"):
            digest.update(f"{value.dtype} {tuple(value.shape)}".encode() + _bits(value))
        else:
            digest.update(repr(value).encode())
    return digest.hexdigest()


def _bits(tensor: torch.Tensor) -> bytes:
    import torch

    bits: bytes = tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return bits


def _flat(name: str, part: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(part, Mapping):
        for key, value in part.items():
            yield from _flat(f"{name}.{key}", value)
    elif isinstance(part, (list, tuple)):
        for number, value in enumerate(part):
            yield from _flat(f"{name}.{number}", value)
    else:
        yield name, part


@contextmanager
def nondeterministic_operators() -> Iterator[set[str]]:
    """Collect the operators that warn under `deterministic=True`."""
    found: set[str] = set()

    def note(message: Warning | str, *arguments: Any, **options: Any) -> None:
        if match := _NONDETERMINISTIC.search(str(message)):
            found.add(match[1] or match[2])
        else:
            shown(message, *arguments, **options)

    shown: Callable[..., None] = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        yield found
