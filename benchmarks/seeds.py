"""Compare the scores of our training and of plain Ultralytics over several seeds: ours must not be worse.

python -m benchmarks.seeds [--quick]
"""

from __future__ import annotations

import csv
import multiprocessing
import os
import statistics
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.figures import Difference
from benchmarks.material import make_digits
from benchmarks.place import main
from benchmarks.sides import redirect
from benchmarks.table import Table, progress

SCORE = "metrics/mAP50-95(B)"
ARGUMENTS: dict[str, object] = {
    "imgsz": 64,
    "optimizer": "AdamW",
    "lr0": 0.003,
    "nbs": 32,
    "fliplr": 0.0,
    "close_mosaic": 8,
    "plots": False,
}
"""With these arguments, a new model learns something within a minute, and most epochs use mosaics."""


def measure(folder: Path, quick: bool) -> Table:
    """Train every seed with plain Ultralytics and with ours, one training run per core at a time."""
    epochs, seeds = (1, 2) if quick else (20, 10)
    data, images = make_digits(folder / "digits")
    sides = {"plain": _plain, "ours": _ours}
    given = ", ".join(f"{name}={value}" for name, value in ARGUMENTS.items() if name != "plots")
    table = Table(
        "Scores over several seeds",
        f"mAP50-95 on the validation scenes for {seeds} training runs each of YOLO11n on {images} scenes, "
        f"{epochs} epochs, {given}, otherwise Ultralytics' defaults: mean and standard deviation. The "
        "difference is given with its standard error; a difference of up to two standard errors can be "
        "chance.",
        ("training", "best.pt", "after the last epoch"),
    )
    reached: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    cores = os.cpu_count() or 1
    with ProcessPoolExecutor(
        cores, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        running = {
            (name, seed): pool.submit(train, data, folder / f"{name}-{seed}", seed, epochs)
            for seed in range(seeds)
            for name, train in sides.items()
        }
        for (name, seed), training in running.items():
            reached[name].append(training.result())
            progress(f"{name}, seed {seed}: {reached[name][-1][0]:.4f}")
    columns = {name: list(zip(*scores, strict=True)) for name, scores in reached.items()}
    for name, scores in columns.items():
        table.add(name, *(f"{statistics.mean(each):.4f} ± {statistics.stdev(each):.4f}" for each in scores))
    differences = [Difference.of(*pair) for pair in zip(columns["ours"], columns["plain"], strict=True)]
    table.add("ours - plain", *(f"{each.mean:+.4f} ± {each.error:.4f}" for each in differences))
    return table


def _plain(data: Path, folder: Path, seed: int, epochs: int) -> tuple[float, float]:
    folder.mkdir()
    redirect(folder / "log")
    from ultralytics import YOLO

    model = YOLO("yolo11n.yaml")
    run = folder / "run"
    model.train(data=str(data), epochs=epochs, seed=seed, project=str(folder), name="run", **ARGUMENTS)
    return float(model.metrics.box.map), _last_score(run / "results.csv")


def _ours(data: Path, folder: Path, seed: int, epochs: int) -> tuple[float, float]:
    folder.mkdir()
    redirect(folder / "log")
    from include.training.contract import TrainingRequest
    from include.training.run import SilentReporter, train

    arguments = ARGUMENTS | {"seed": seed}
    result = train(
        TrainingRequest("detect", "yolo11n", data, folder, epochs, arguments=arguments), SilentReporter()
    )
    return float(result.metrics[SCORE] or 0), _last_score(folder / "results.csv")


def _last_score(results: Path) -> float:
    with results.open(encoding="utf-8", newline="") as file:
        return float(list(csv.DictReader(file))[-1][SCORE])


if __name__ == "__main__":
    main(measure)
