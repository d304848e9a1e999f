"""Small .ndjson exports, as Ultralytics Platform writes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://images.example.com"

LABELS: dict[str, tuple[str, list[float]]] = {
    "detect": ("boxes", [0.5, 0.4, 0.2, 0.30000000000000004]),
    "segment": ("segments", [0.1, 0.1, 0.9, 0.1, 0.5, 0.8123456789]),
    "semantic": ("segments", [0.1, 0.1, 0.9, 0.1, 0.5, 0.8]),
    "pose": ("pose", [0.5, 0.5, 0.2, 0.2, 0.4, 0.4, 2, 0.6, 0.6, 0]),
    "obb": ("obb", [0.1, 0.1, 0.9, 0.1, 0.9, 0.5, 0.1, 0.5]),
}
"""For each task, the key of its annotations, and the values that follow the class in a label."""


def png(seed: int, *, depth: bool = False) -> bytes:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(500, 5000, (32, 48), dtype=np.uint16)
    return cv2.imencode(".png", pixels if depth else rng.integers(0, 255, (32, 48, 3), dtype=np.uint8))[
        1
    ].tobytes()


def header(task: str, **more: Any) -> dict[str, Any]:
    return {"type": "dataset", "task": task, "name": "Mine", "class_names": {"0": "cat", "2": "dog"}, **more}


def record(task: str, index: int, split: str = "train", url: str = URL, **more: Any) -> dict[str, Any]:
    """Return an image's line; the class and the number of labels depend on the image's index."""
    name = f"photo-{index}.png"
    made: dict[str, Any] = {
        "type": "image",
        "file": name,
        "url": f"{url}/{name}?signature=secret{index}",
        "split": split,
    }
    if task == "classify":
        made["annotations"] = {"classification": [2 * (index % 2)]}
    elif task == "depth":
        made["depth"] = {"url": f"{url}/depth-{index}.png?signature=secret{index}"}
    else:
        kind, label = LABELS[task]
        made["annotations"] = {kind: [[2 * (index % 2), *label]] * (index % 3)}
    return made | more


def export(task: str, url: str = URL, splits: str = "ttttttvvvx") -> list[dict[str, Any]]:
    """Return an export with an image for each letter of `splits`; the letter selects the image's split."""
    names = {"t": "train", "v": "val", "x": "test"}
    return [
        header(task),
        *(record(task, index, names[split], url) for index, split in enumerate(splits, start=1)),
    ]


def write(path: Path, lines: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path
