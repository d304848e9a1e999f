"""Measure how long training pauses to save its state."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.child import run_in_child
from benchmarks.gpu.photographs import few_photographs
from benchmarks.gpu.step import Step
from benchmarks.gpu.training_run import TrainingRun

if TYPE_CHECKING:
    from benchmarks.gpu.place import Place
    from include.training.resumable import ResumableMixin


def _measure(place: Place) -> Iterator[Sequence[Any]]:
    data = few_photographs(place)
    for model in ("yolo11n",) if place.quick else ("yolo11n", "yolo11m", "yolo11x"):
        arguments = {"imgsz": 64, "batch": 8, "nbs": 10**6, "optimizer": "AdamW"}
        training = TrainingRun(
            "detect", place.architecture("detect", model), data, place.folder / f"save-{model}", 1,
            place.device, arguments=arguments,
        )  # fmt: skip
        log = place.folder / f"save-{model}.log"
        with run_in_child(_train_and_save, training, 2 if place.quick else 7, log=log) as child:
            yield child.result()


def _train_and_save(training: TrainingRun, rounds: int) -> Sequence[Any]:
    row: list[Any] = []
    with training.trainer() as trainer:
        trainer.add_callback("on_model_save", lambda trainer: row.extend(_saves(trainer, rounds)))
        trainer.train()
    return [Path(training.model).stem, *row]


def _saves(trainer: ResumableMixin, rounds: int) -> Sequence[Any]:
    """Measure `save_model` of plain Ultralytics and of ours, then the parts of ours one by one."""
    import torch
    from ultralytics.engine.trainer import BaseTrainer

    from include.training.host_copy import copy_to_host
    from include.training.saving import build_whole_state, link_or_copy

    best_fitness, trainer.best_fitness = trainer.best_fitness, None  # neither plain nor ours writes best.pt
    last, handed_over = trainer.last, trainer.last.with_name("handed.pt")
    plain_last = last.with_name("plain.pt")

    def plain_save() -> None:
        trainer.last = plain_last
        BaseTrainer.save_model(trainer)
        trainer.last = last

    plain, plain_memory = _time(plain_save, trainer, rounds)
    ours, ours_memory = _time(trainer.save_model, trainer, rounds, trainer.state_writer.flush)

    def copy() -> Any:
        host, wait = copy_to_host(build_whole_state(trainer), trainer.device)
        wait()
        return host

    copying, _ = _time(copy, trainer, rounds)
    host = copy()
    serialising, _ = _time(lambda: torch.save(host, plain_last), trainer, rounds)
    handing, _ = _time(lambda: link_or_copy(last, handed_over), trainer, rounds)
    trainer.best_fitness = best_fitness
    size = last.stat().st_size / 1e6
    for path in (plain_last, handed_over):
        path.unlink()
    return [size, plain, ours, copying, serialising, handing, plain_memory, ours_memory]


def _time(
    act: Callable[[], object],
    trainer: ResumableMixin,
    rounds: int,
    afterwards: Callable[[], object] = lambda: None,
) -> tuple[float, float | None]:
    """Return the median in ms, without the first round, and the peak of additional GPU memory in MB."""
    import torch

    on_gpu = trainer.device.type == "cuda"
    taken, extra = [], None
    for _ in range(rounds + 1):
        if on_gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        start = time.perf_counter()
        act()
        if on_gpu:
            torch.cuda.synchronize()
            extra = (torch.cuda.max_memory_allocated() - before) / 1e6
        taken.append(1000 * (time.perf_counter() - start))
        afterwards()
    return statistics.median(taken[1:]), extra


STEP = Step(
    "save",
    "The whole training state, including gradients that wait for an optimizer step, is saved while no batch "
    "is being trained; medians of seven saves. *Pause* is the time from the call of `save_model` until the "
    "GPU has finished its copies. The next three columns give the time of each part of our save: copying to "
    "the host, serialising into a file, and handing the file over to the uploader. In a training run, a "
    "background thread does the last two. *GPU memory* is the peak memory that a save needs in addition to "
    "that of the training run.",
    (
        "model", "last.pt, MB", "pause, plain, ms", "pause, ours, ms", "copy, ms", "serialisation, ms",
        "hand-over, ms", "GPU memory, plain, MB", "GPU memory, ours, MB",
    ),
    _measure,
    seconds=60,
)  # fmt: skip
