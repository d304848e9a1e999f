"""Small datasets in COCO's own layout, and the parts from which tests build other annotation files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

SIDES = (64, 48)
"""Width and height of all images."""

KEYPOINTS = ["nose", "left_eye", "right_eye"]


def draw_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = SIDES
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    cv2.imwrite(str(path), pixels)


def mask(seed: int) -> np.ndarray:
    """Draw a mask of two blobs, one of them with a hole."""
    width, height = SIDES
    drawn = np.zeros((height, width), np.uint8)
    rng = np.random.default_rng(seed)
    cv2.circle(drawn, (int(rng.integers(15, 25)), 20), 9, 1, -1)
    cv2.ellipse(drawn, (48, 30), (10, int(rng.integers(4, 9))), 30, 0, 360, 1, -1)
    cv2.circle(drawn, (20, 20), 3, 0, -1)
    return drawn


def runs_of(drawn: np.ndarray) -> list[int]:
    """Return the run lengths of a mask, column by column; the first run is of zeros."""
    flat = drawn.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, len(flat)]).tolist()
    return [0, *runs] if flat[0] else runs


def pack_runs(runs: list[int]) -> str:
    """Return the text of a compressed RLE, as rleToString in maskApi.c of the COCO API writes it."""
    text = ""
    for index, run in enumerate(runs):
        left = run - runs[index - 2] if index > 2 else run
        more = True
        while more:
            code, left = left & 0x1F, left >> 5
            more = left != (-1 if code & 0x10 else 0)
            text += chr((code | (0x20 if more else 0)) + 48)
    return text


def rle(drawn: np.ndarray, *, compressed: bool) -> dict[str, Any]:
    runs = runs_of(drawn)
    return {"size": list(drawn.shape), "counts": pack_runs(runs) if compressed else runs}


@dataclass
class Coco:
    """The content of an annotation file, built piece by piece."""

    categories: list[dict[str, Any]] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def category(self, key: int, name: str, **more: Any) -> None:
        self.categories.append({"id": key, "name": name, **more})

    def image(self, key: Any, name: str, **more: Any) -> None:
        width, height = SIDES
        self.images.append({"id": key, "file_name": name, "width": width, "height": height, **more})

    def annotate(self, image: Any, category: Any, bbox: Any = (4, 6, 20, 18), **more: Any) -> None:
        key = len(self.annotations) + 1
        box = list(bbox) if isinstance(bbox, tuple) else bbox
        self.annotations.append({"id": key, "image_id": image, "category_id": category, "bbox": box, **more})

    def write(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"info": {"year": 2026}, **vars(self)}), encoding="utf-8")
        return path


def coco_split(first: int, names: list[str], category_ids: tuple[int, ...]) -> Coco:
    """Return a split with polygons in one or several parts, crowds, plain boxes, duplicates, keypoints."""
    made, rng = Coco(), np.random.default_rng(first)
    for key in category_ids:
        made.category(key, f"class {key}", keypoints=KEYPOINTS)
    for offset, name in enumerate(names):
        image = first + offset
        made.image(image, name)
        for part in range(7):
            category = int(rng.choice(category_ids))
            polygons = [
                (rng.random(2 * rng.integers(3, 9)) * 40 + 2).round(2).tolist() for _ in range(1 + part % 3)
            ]
            box = (*(rng.random(2) * 20).round(2).tolist(), *(rng.random(2) * 20 + 4).round(2).tolist())
            points = [*(rng.random(6) * 40).round(1).tolist()]
            keypoints = [points[0], points[1], 2, points[2], points[3], 1, 0, 0, 0]
            made.annotate(image, category, box, segmentation=polygons, keypoints=keypoints, iscrowd=0)
        made.annotations.append(dict(made.annotations[-1]))
        made.annotate(image, category_ids[0], segmentation=[[1, 2, 3, 4]], keypoints=[0] * 9)
        made.annotate(image, category_ids[0], (4, 4, 0, 9), segmentation=[])
        made.annotate(image, category_ids[0], segmentation=[], iscrowd=1)
    made.image(first + len(names), "background.png")
    return made


def build_coco(folder: Path, category_ids: tuple[int, ...] = (1, 2, 3)) -> Path:
    """Build COCO's own layout: annotations/instances_*.json beside an image folder for each split."""
    for number, split in enumerate(("train2017", "val2017")):
        names = [f"{split}-{index}.png" for index in range(3)]
        for index, name in enumerate([*names, "background.png"]):
            draw_image(folder / split / name, 10 * number + index)
        coco_split(100 * number + 1, names, category_ids).write(
            folder / "annotations" / f"instances_{split}.json"
        )
    return folder
