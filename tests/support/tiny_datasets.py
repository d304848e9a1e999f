"""Tiny valid datasets for every task: a few images of 64 pixels with drawn shapes; an epoch takes a second.

Shapes are polygons with known corners, so that one drawing gives the labels of every task: boxes, outlines,
oriented boxes, corners as keypoints, and classes, and the class or the distance of each pixel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import yaml

from include.ultralytics_tasks import TASKS as TASKS  # noqa: PLC0414 - together with their data

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = ("box", "arrow")
IGNORED = 255
MAPS = {"semantic": "masks", "depth": "depth"}
"""The folders with the maps of the tasks that label each pixel."""

MAP_KEYS: dict[str, dict[str, object]] = {
    "semantic": {"masks_dir": MAPS["semantic"]},
    "depth": {"names": {0: "depth"}, "depth_scale": 1000},
}
"""The keys of the data YAML about the maps."""

_CORNERS = {
    "box": np.array([[-1, -0.6], [1, -0.6], [1, 0.6], [-1, 0.6]]),
    "arrow": np.array([[-1, -0.6], [1, 0], [-1, 0.6], [-0.5, 0]]),
}


def build(task: str, folder: Path, train: int = 8, val: int = 4, size: int = 64, seed: int = 0) -> Path:
    """Draw a dataset below `folder`; return the path for Ultralytics' argument `data`.

    The path is data.yaml, or the folder itself for classify. `train` and `val` are numbers of images, and
    `size` is in pixels.
    """
    rng = np.random.default_rng(seed)
    for split, images in (("train", train), ("val", val)):
        for index in range(images):
            if task == "classify":
                _classify(folder / split, index, size, rng)
            else:
                _labelled(task, folder, split, index, size, rng)
    return folder if task == "classify" else _describe(task, folder)


def _classify(split: Path, index: int, size: int, rng: np.random.Generator) -> None:
    name = CLASSES[index % len(CLASSES)]
    image, _ = _draw([name], size, rng)
    (split / name).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(split / name / f"{index}.png"), image)


def _labelled(task: str, folder: Path, split: str, index: int, size: int, rng: np.random.Generator) -> None:
    names = list(rng.permutation(CLASSES))[: 1 + index % 2]
    image, corners = _draw(names, size, rng)
    for kind in ("images", MAPS.get(task, "labels")):
        (folder / kind / split).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "images" / split / f"{index}.png"), image)
    if task in MAPS:
        pixels = pixel_map(task, [CLASSES.index(name) for name in names], corners, (size, size))
        cv2.imwrite(str(folder / MAPS[task] / split / f"{index}.png"), pixels)
        return
    lines = [
        label(task, CLASSES.index(name), shape / size) for name, shape in zip(names, corners, strict=True)
    ]
    (folder / "labels" / split / f"{index}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _draw(names: list[str], size: int, rng: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    """Draw the named shapes side by side on noise; return the image and each shape's corners in pixels."""
    image = rng.integers(60, 120, (size, size, 3), dtype=np.uint8)
    width = size / len(names)
    outlines = []
    for place, name in enumerate(names):
        angle = rng.uniform(0, 2 * np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        radius = rng.uniform(0.28, 0.4) * min(width, size)
        centre = np.array([(place + 0.5) * width, size * rng.uniform(0.45, 0.55)])
        outline = _CORNERS[name] @ turn.T * radius + centre
        cv2.fillPoly(image, [outline.round().astype(np.int32)], rng.integers(160, 255, 3).tolist())
        outlines.append(outline)
    return image, outlines


def pixel_map(task: str, classes: list[int], outlines: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Return the class of each pixel (IGNORED around the shapes), or its distance in millimetres.

    The distance of the ground decreases from top to bottom, the shapes are closer, and the distance of one
    corner is unknown. `size` is width and height.
    """
    width, height = size
    if task == "semantic":
        pixels = np.full((height, width), IGNORED, np.uint8)
        values = classes
    else:
        pixels = np.repeat(np.linspace(4000, 2500, height).astype(np.uint16)[:, None], width, axis=1)
        pixels[: height // 8, : width // 8] = 0
        values = [1000 + 500 * class_id for class_id in classes]
    for value, outline in zip(values, outlines, strict=True):
        cv2.fillPoly(pixels, [outline.round().astype(np.int32)], value)
    return pixels


def label(task: str, class_id: int, corners: np.ndarray) -> str:
    """Return a line of a label file for corners (4, 2) given as fractions of the image."""
    low, high = corners.min(axis=0), corners.max(axis=0)
    box = [*((low + high) / 2), *(high - low)]
    numbers = {
        "detect": box,
        "segment": corners.ravel(),
        "obb": cv2.boxPoints(cv2.minAreaRect(corners.astype(np.float32))).clip(0, 1).ravel(),
        "pose": [*box, *np.column_stack([corners, np.full(len(corners), 2)]).ravel()],
    }[task]
    return " ".join([str(class_id), *(f"{number:.6f}" for number in numbers)])


def _describe(task: str, folder: Path) -> Path:
    description: dict[str, object] = {
        "path": str(folder.resolve()),
        "train": "images/train",
        "val": "images/val",
        "names": dict(enumerate(CLASSES)),
    }
    description |= MAP_KEYS.get(task, {})
    if task == "pose":
        description |= {"kpt_shape": [4, 3], "flip_idx": [0, 1, 2, 3]}
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump(description, sort_keys=False), encoding="utf-8")
    return path
