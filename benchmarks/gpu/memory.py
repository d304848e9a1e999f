"""Resume while another process holds the GPU's memory, and time how fast a stopped run frees its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.child import ChildDied, ChildFailed, run_in_child
from benchmarks.gpu.packages import ROOT
from benchmarks.gpu.photographs import photographs
from benchmarks.gpu.step import Step, kill_with_children
from benchmarks.gpu.training_run import TrainingRun, train_until_killed
from benchmarks.gpu.watching import used_memory
from benchmarks.sides import wait_until

if TYPE_CHECKING:
    from benchmarks.gpu.place import Place

_TAKEN = 0.9
_SLACK = 100 * 2**20
"""GPU memory counts as freed when its use is at most this many bytes above that before the training run."""


def _measure(place: Place) -> Iterator[Sequence[Any]]:
    data = photographs(place.folder, "detect", 172, 16)
    folder = place.own("memory")
    training = TrainingRun(
        "detect", "yolo11n", data, folder / "run", 3, place.device, 4, {"imgsz": 640, "batch": 64}
    )
    log = folder / "run.log"
    with run_in_child(train_until_killed, training, 1, 0, log=log) as child, suppress(ChildDied):
        child.result()
    with run_in_child(_hold, int(place.device), _TAKEN, folder / "held", log=folder / "hold.log"):
        wait_until((folder / "held").exists, "the memory to be taken", 30)
        yield f"resumed while {_TAKEN:.0%} of the memory is taken", _resume(training, log)
    yield "resumed when it is free again", _resume(training, log)
    yield from _release(replace(training, folder=folder / "stopped", epochs=1000), int(place.device))


def _resume(training: TrainingRun, log: Path) -> str:
    with run_in_child(_train_and_describe, replace(training, recover=True), log=log) as child:
        try:
            return child.result()
        except (ChildFailed, ChildDied) as error:
            return str(error)


def _train_and_describe(training: TrainingRun) -> str:
    with training.trainer() as trainer:
        trainer.train()
        reason = trainer.inexact_reason or "no"
        return f"finished with batch={trainer.batch_size}; outside the guarantee: {reason}"


def _hold(gpu: int, share: float, held: Path) -> None:
    """Occupy a share of the GPU's memory until this process is killed."""
    import torch

    _, total = torch.cuda.mem_get_info(gpu)
    taken = torch.empty(int(total * share), dtype=torch.uint8, device=f"cuda:{gpu}")
    held.write_text(str(taken.numel()))
    time.sleep(3600)


def _release(training: TrainingRun, gpu: int) -> Iterator[Sequence[Any]]:
    """Send SIGTERM in mid-epoch to a run of `python -m include.training`, and watch the GPU's memory."""
    before = used_memory(gpu)
    command = [
        sys.executable, "-m", "include.training", "--data", str(training.data), "--model", training.model,
        "--epochs", str(training.epochs), "--device", training.device, "--save-dir", str(training.folder),
        "--set", "imgsz=640", "batch=64", "plots=false",
    ]  # fmt: skip
    with training.folder.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_until(training.last.exists, "the first state", 60)
            held = used_memory(gpu) - before
            signalled = time.monotonic()
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: used_memory(gpu) <= before + _SLACK, "free memory after SIGTERM", 60)
            freed = time.monotonic() - signalled
            process.wait(60)
        finally:
            kill_with_children(process.pid)
            process.wait()
    yield "memory of a training run, MB", held / 1e6
    yield "from SIGTERM to free memory, s", freed
    yield "from SIGTERM to the end of the process, s", time.monotonic() - signalled


STEP = Step(
    "memory",
    "YOLO11n, imgsz=640, batch=64, killed in epoch 2. The run is resumed while another process holds 90 % of "
    "the GPU's memory, and once more after that process has freed it. Then a training run gets SIGTERM in "
    "mid-epoch. The table gives the GPU memory that this run held, and how long it takes to free the memory "
    "and to end.",
    ("what", "found"),
    _measure,
    seconds=90,
    needs_gpu=True,
)
