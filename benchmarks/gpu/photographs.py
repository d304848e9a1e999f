"""Draw synthetic photographs with labels for every task, 2,000 in a few seconds on all processors."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from benchmarks.gpu.place import processors

if TYPE_CHECKING:
    import numpy as np

    from benchmarks.gpu.place import Place

SIZE = (640, 480)
"""Width and height in pixels."""

FEW, MANY = 18, 2000
"""Numbers of training images."""

CLASSES = ("box", "arrow", "wedge")
_CORNERS = {
    "box": ((-1, -0.6), (1, -0.6), (1, 0.6), (-1, 0.6)),
    "arrow": ((-1, -0.6), (1, 0), (-1, 0.6), (-0.5, 0)),
    "wedge": ((-1, -0.5), (1, -0.2), (1, 0.2), (-1, 0.5)),
}
_COLUMNS = 4


def photographs(folder: Path, task: str, train: int, val: int, size: tuple[int, int] = SIZE) -> Path:
    """Draw a dataset for the task unless it exists, and return the value for Ultralytics' `data`."""
    folder = folder / f"{task}-{train}-{size[0]}"
    data = folder if task == "classify" else folder / "data.yaml"
    if folder.exists():
        return data
    from tests.support.tiny_datasets import MAPS

    staged = folder.with_suffix(".part")
    numbers = [
        *((split, number) for split, count in (("train", train), ("val", val)) for number in range(count))
    ]
    for split in ("train", "val"):
        for part in CLASSES if task == "classify" else ("images", MAPS.get(task, "labels")):
            (staged / (f"{split}/{part}" if task == "classify" else f"{part}/{split}")).mkdir(parents=True)
    with ProcessPoolExecutor(processors(), multiprocessing.get_context("fork")) as pool:
        list(pool.map(partial(_draw, staged, task, size), numbers, chunksize=16))
    if task != "classify":
        (staged / "data.yaml").write_text(yaml.safe_dump(_description(task, folder)), encoding="utf-8")
    staged.rename(folder)
    return data


def few_photographs(place: Place) -> Path:
    """Draw 18 tiny photographs for detect; an epoch on them takes almost no time on any machine."""
    return photographs(place.folder, "detect", FEW, 4, size=(96, 64))


def many_photographs(place: Place) -> Path:
    """Draw 2,000 photographs for detect, or with `--quick` a few tiny ones."""
    return few_photographs(place) if place.quick else photographs(place.folder, "detect", MANY, 100)


def _description(task: str, folder: Path) -> dict[str, object]:
    from tests.support.tiny_datasets import MAP_KEYS

    description: dict[str, object] = {
        "path": str(folder.resolve()),
        "train": "images/train",
        "val": "images/val",
        "names": dict(enumerate(CLASSES)),
    }
    description |= MAP_KEYS.get(task, {})
    if task == "pose":
        description |= {"kpt_shape": [4, 3], "flip_idx": [0, 1, 2, 3]}
    return description


def _draw(folder: Path, task: str, size: tuple[int, int], place: tuple[str, int]) -> None:
    """Draw one photograph with one to four shapes side by side, each in its own column."""
    import cv2
    import numpy as np

    from tests.support.tiny_datasets import MAPS, label, pixel_map

    split, number = place
    rng = np.random.default_rng([number, split == "val"])
    cv2.setNumThreads(0)
    image, lines, outlines = _background(size, rng), [], []
    names = [CLASSES[number % len(CLASSES)]] if task == "classify" else None
    names = names or list(rng.choice(CLASSES, rng.integers(1, _COLUMNS + 1)))
    width = size[0] / len(names)
    for column, name in enumerate(names):
        corners = _corners(name, width, size[1], rng)
        corners[:, 0] += (column + 0.5) * width
        colour = rng.integers(0, 255, 3).tolist()
        cv2.fillPoly(image, [corners.round().astype(np.int32)], colour, lineType=cv2.LINE_AA)
        outlines.append(corners)
        if task != "classify" and task not in MAPS:
            lines.append(label(task, CLASSES.index(name), corners / size))
    stem = f"{number:05d}"
    target = folder / (f"{split}/{names[0]}" if task == "classify" else f"images/{split}") / f"{stem}.jpg"
    cv2.imwrite(str(target), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
    if task in MAPS:
        pixels = pixel_map(task, [CLASSES.index(name) for name in names], outlines, size)
        cv2.imwrite(str(folder / MAPS[task] / split / f"{stem}.png"), pixels)
    if lines:
        (folder / "labels" / split / f"{stem}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _background(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw soft light, shapes and sensor noise, so that the image decodes about as fast as a photograph."""
    import cv2
    import numpy as np

    image = np.full((size[1], size[0], 3), 128, np.float32)
    for cells, strength in ((4, 60), (24, 25), (96, 12)):
        grid = rng.standard_normal((max(2, cells * size[1] // size[0]), cells, 3), np.float32)
        image += strength * cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC)
    image += 6 * rng.standard_normal(image.shape, np.float32)
    pixels: np.ndarray = image.clip(0, 255).astype(np.uint8)
    return pixels


def _corners(name: str, width: float, height: int, rng: np.random.Generator) -> np.ndarray:
    """Rotate and scale a shape within its column; return its corners in pixels, shape (4, 2)."""
    import numpy as np

    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    radius = rng.uniform(0.15, 0.4) * min(width, height)
    corners: np.ndarray = np.array(_CORNERS[name]) @ turn.T * radius
    corners[:, 1] += height * rng.uniform(0.47, 0.53)
    return corners
