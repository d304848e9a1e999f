"""Draws the labels of a few images. Runs in a confined process, see confinement.py."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.datasets.drawing.maps import choose_colour, draw_depths, draw_mask
from include.datasets.drawing.shapes import read_shapes
from include.datasets.layouts.layout import read_layout
from include.datasets.layouts.samples import DatasetLocation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.datasets.drawing.maps import Picture
    from include.datasets.drawing.shapes import Point, Shape
    from include.datasets.layouts.samples import Layout, Sample
    from include.datasets.rules import Split
    from include.ultralytics_tasks import Task


log = logging.getLogger(__name__)

PRELOADED = ("numpy", "cv2")
"""Modules that the confined process imports before its memory is limited."""

INDEX = "index.json"
"""The file that lists each picture's name, split and image."""

MOST_SAMPLES = 12
"""Maximum number of pictures per dataset; at most a third of them are from a separate validation split."""

_LONGEST_SIDE = 640
_QUALITY = 85
_FILLED = 0.3
"""Opacity of the colour within an outline."""


def draw_samples(location: dict[str, Any], task: Task, split: Split, target: str) -> None:
    """Draw samples of the dataset at `location` into the folder `target`: 0.jpg and so on, listed in INDEX.

    `split` is the validation split. An image that OpenCV cannot read is skipped. Raises DatasetError.
    """
    import cv2

    layout = read_layout(DatasetLocation.from_json(location), task, split)
    folder = Path(target)
    folder.mkdir(exist_ok=True)
    drawn: list[dict[str, str]] = []
    for part, sample in _choose(layout, split):
        picture = _draw(sample, layout)
        if picture is None:
            log.info("OpenCV cannot read %s, so it is not drawn.", layout.make_relative(sample.image))
            continue
        name = f"{len(drawn)}.jpg"
        cv2.imwrite(str(folder / name), picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        drawn.append({"name": name, "split": part, "image": sample.name})
    (folder / INDEX).write_text(json.dumps(drawn), encoding="utf-8")


def _choose(layout: Layout, validation: Split) -> list[tuple[Split, Sample]]:
    """Return samples of train and of the validation split, at even intervals, in the order of the images."""
    shares: dict[Split, int] = {"train": MOST_SAMPLES}
    if validation != "train":
        of_val = MOST_SAMPLES // 3
        shares = {"train": MOST_SAMPLES - of_val, validation: of_val}
    chosen: list[tuple[Split, Sample]] = []
    for split, most in shares.items():
        samples = layout.splits[split]
        count = min(most, len(samples))
        chosen += [(split, samples[number * len(samples) // count]) for number in range(count)]
    return chosen


def _draw(sample: Sample, layout: Layout) -> Picture | None:
    import cv2

    picture = cv2.imread(sample.image, cv2.IMREAD_COLOR)
    if picture is None:
        return None
    height, width = picture.shape[:2]
    scale = _LONGEST_SIDE / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    if layout.task == "classify":
        return _write(picture, sample.name.partition("/")[0], (4, 4), (40, 40, 40))
    label = Path(sample.label or "")
    if not label.is_file():
        return picture
    keypoints = layout.extras.get("kpt_shape", (0, 0))
    with suppress(ValueError, OSError):  # the check reports labels that cannot be read
        if layout.task == "depth":
            return draw_depths(picture, label, sample.suffix)
        if layout.labels.are_images:
            return draw_mask(picture, label, layout.extras.get("label_mapping", {}))
        for shape in read_shapes(label, layout.task, (keypoints[0], keypoints[1])):
            picture = _draw_shape(picture, shape, layout)
    return picture


def _draw_shape(picture: Picture, shape: Shape, layout: Layout) -> Picture:
    import cv2

    colour = choose_colour(shape.class_id)
    outline = _in_pixels(shape.outline, picture)
    if layout.task in {"segment", "semantic", "obb"}:
        filled = picture.copy()
        cv2.fillPoly(filled, [outline], colour)
        picture = cv2.addWeighted(filled, _FILLED, picture, 1 - _FILLED, 0)
    cv2.polylines(picture, [outline], isClosed=True, color=colour, thickness=2, lineType=cv2.LINE_AA)
    for point in _in_pixels(shape.keypoints, picture) if shape.keypoints else ():
        for radius, shade in ((5, (255, 255, 255)), (3, colour)):
            cv2.circle(picture, point.tolist(), radius, shade, thickness=-1, lineType=cv2.LINE_AA)
    left, top = outline.min(axis=0).tolist()
    return _write(picture, layout.names.get(shape.class_id, str(shape.class_id)), (left, top), colour)


def _in_pixels(points: Sequence[Point], picture: Picture) -> Any:
    """Return the points in whole pixels, clipped to at most one picture size beyond each edge.

    OpenCV silently overflows on large coordinates.
    """
    import numpy as np

    height, width = picture.shape[:2]
    scaled = np.clip(np.asarray(points, dtype=float), -1, 2) * (width, height)
    return scaled.round().astype(np.int32)


def _write(picture: Picture, text: str, place: tuple[int, int], colour: tuple[int, int, int]) -> Picture:
    """Write the text in a box with its upper left corner at `place`, or as near as the picture allows.

    OpenCV's font has only ASCII; other characters become question marks.
    """
    import cv2

    shown = text.encode("ascii", "replace").decode()[:40]
    (width, height), _ = cv2.getTextSize(shown, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)
    left = max(0, min(place[0], picture.shape[1] - width - 6))
    top = max(0, min(place[1], picture.shape[0] - height - 8))
    cv2.rectangle(picture, (left, top), (left + width + 6, top + height + 8), colour, thickness=-1)
    cv2.putText(
        picture, shown, (left + 3, top + height + 4), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1,
        cv2.LINE_AA,
    )  # fmt: skip
    return picture
