"""How long training pauses to save its state."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.child import started
from benchmarks.gpu.photographs import photographs
from benchmarks.gpu.step import Step
from benchmarks.gpu.trainings import Training

if TYPE_CHECKING:
    from benchmarks.gpu.place import Place
    from include.training.trainers import ResumableMixin


def _measure(place: Place) -> Iterator[Sequence[Any]]:
    data = photographs(place.folder, "detect", 18, 4, size=(96, 64))
    for model in ("yolo11n",) if place.quick else ("yolo11n", "yolo11m", "yolo11x"):
        arguments = {"imgsz": 64, "batch": 8, "nbs": 10**6, "optimizer": "AdamW"}
        training = Training(
            "detect", place.architecture("detect", model), data, place.folder / f"save-{model}", 1,
            place.device, arguments=arguments,
        )  # fmt: skip
        log = place.folder / f"save-{model}.log"
        with started(_train_and_save, training, 2 if place.quick else 7, log=log) as child:
            yield child.result()


def _train_and_save(training: Training, rounds: int) -> Sequence[Any]:
    row: list[Any] = []
    with training.trainer() as trainer:
        trainer.add_callback("on_model_save", lambda trainer: row.extend(_saves(trainer, rounds)))
        trainer.train()
    return [Path(training.model).stem, *row]


def _saves(trainer: ResumableMixin, rounds: int) -> Sequence[Any]:
    """Save by turns in both ways, and then our parts of it, one by one."""
    import torch
    from ultralytics.engine.trainer import BaseTrainer

    from include.training.saving import snapshot, whole_state

    best_fitness, trainer.best_fitness = trainer.best_fitness, None  # neither way writes best.pt
    last, handed = trainer.last, trainer.last.with_name("handed.pt")
    plain_last = last.with_name("plain.pt")

    def plain_save() -> None:
        trainer.last = plain_last
        BaseTrainer.save_model(trainer)
        trainer.last = last

    plain, plain_memory = _timed(plain_save, trainer, rounds)
    ours, ours_memory = _timed(trainer.save_model, trainer, rounds, trainer.state_writer.flush)
    copying, _ = _timed(lambda: _to_host(whole_state(trainer)), trainer, rounds)
    host = _to_host(whole_state(trainer))
    serialising, _ = _timed(lambda: torch.save(host, plain_last), trainer, rounds)
    handing, _ = _timed(lambda: snapshot(last, handed), trainer, rounds)
    trainer.best_fitness = best_fitness
    size = last.stat().st_size / 1e6
    for path in (plain_last, handed):
        path.unlink()
    return [size, plain, ours, copying, serialising, handing, plain_memory, ours_memory]


def _to_host(state: Any) -> Any:
    """Copy the tensors of nested plain values to the host's memory; those on the host stay."""
    import torch

    if torch.is_tensor(state):
        return state.cpu()
    if isinstance(state, dict):
        return {name: _to_host(value) for name, value in state.items()}
    return deepcopy(state).cpu() if isinstance(state, torch.nn.Module) else state


def _timed(
    act: Callable[[], object],
    trainer: ResumableMixin,
    rounds: int,
    afterwards: Callable[[], object] = lambda: None,
) -> tuple[float, float | None]:
    """Milliseconds (the median, without the first round), and the MB of GPU memory that it needs at most."""
    import torch

    on_gpu = trainer.device.type == "cuda"
    taken, extra = [], None
    for _ in range(rounds + 1):
        if on_gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        begun = time.perf_counter()
        act()
        if on_gpu:
            torch.cuda.synchronize()
            extra = (torch.cuda.max_memory_allocated() - before) / 1e6
        taken.append(1000 * (time.perf_counter() - begun))
        afterwards()
    return statistics.median(taken[1:]), extra


STEP = Step(
    "save",
    "The whole state in training, gradients that wait for an optimizer step included, saved while the "
    "training stands still: medians of seven. The pause is how long `save_model` takes, plain and ours, "
    "until the GPU has copied. Then what is done with ours, each alone: the copy to the host, the "
    "serialisation into a file, and the hand-over of the file to who uploads it; the last two by a thread. "
    "Memory is what the GPU needs beside the training, at its peak.",
    (
        "model", "last.pt, MB", "pause, plain, ms", "pause, ours, ms", "copy, ms", "serialisation, ms",
        "hand-over, ms", "GPU memory, plain, MB", "GPU memory, ours, MB",
    ),
    _measure,
    seconds=60,
)  # fmt: skip
