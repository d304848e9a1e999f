"""Draws the labels of a few images. Runs in a confined process, see confinement.py."""

from __future__ import annotations

import colorsys
import json
import logging
import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.datasets.checking.depths import open_depths
from include.datasets.checking.label_lines import BOX, OUTLINE
from include.datasets.checking.masks import IGNORED, read_mask
from include.datasets.layouts.layout import read_layout
from include.datasets.layouts.samples import DatasetLocation
from include.datasets.text import read_lines
from include.limits import LABEL_BYTES, LABEL_LINE, LABEL_LINES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from include.datasets.layouts.samples import Layout, Sample
    from include.datasets.rules import Split
    from include.ultralytics_tasks import Task

    Picture = Any
    """An image as in OpenCV: a byte array of shape (height, width, 3), blue first."""


log = logging.getLogger(__name__)

PRELOADED = ("numpy", "cv2")
"""Modules that the confined process imports before its memory is limited."""

INDEX = "index.json"
"""The file that lists each picture's name, split and image."""

MOST_SAMPLES = 12
"""Maximum number of pictures per dataset; at most a third of them are from a separate validation split."""

_LONGEST_SIDE = 640
_QUALITY = 85
_FILLED, _MASKED = 0.3, 0.6
"""Opacity of the colour within an outline, and of the colours of a mask."""

_GOLDEN_RATIO = 0.618034
"""The step of the hue from class to class, which keeps the colours of neighbouring classes apart."""

Point = tuple[float, float]
"""As fractions of the image's width and height."""


@dataclass(frozen=True)
class Shape:
    """One labelled object."""

    class_id: int
    """As in the label file; the dataset may have no such class."""
    outline: tuple[Point, ...]
    """The corners of the object's box, oriented box or polygon."""
    keypoints: tuple[Point, ...] = ()
    """Only the labelled keypoints."""


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

    colour = _choose_colour(shape.class_id)
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


def _choose_colour(class_id: int) -> tuple[int, int, int]:
    """Return the colour of a class, dark enough for white text, in OpenCV's order: blue, green, red."""
    red, green, blue = colorsys.hsv_to_rgb(class_id * _GOLDEN_RATIO % 1, 0.85, 0.75)
    return round(blue * 255), round(green * 255), round(red * 255)


def draw_mask(picture: Picture, mask: Path, mapping: Mapping[int, int]) -> Picture:
    """Return the picture with the classes of its mask in colours; ignored pixels stay unchanged.

    `mapping` maps the ids in the mask to class ids; an id that is not in it is itself the class id.
    """
    import cv2
    import numpy as np

    ids = read_mask(mask)
    if ids is None:
        return picture
    size = picture.shape[1], picture.shape[0]
    meant = np.array([mapping.get(number, number) for number in range(256)], np.uint8)
    ids = meant[cv2.resize(ids.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)]
    coloured = picture.copy()
    for class_id in np.unique(ids):
        if class_id != IGNORED:
            coloured[ids == class_id] = _choose_colour(int(class_id))
    return cv2.addWeighted(coloured, _MASKED, picture, 1 - _MASKED, 0)


def draw_depths(picture: Picture, depths: Path, suffix: str) -> Picture:
    """Return the picture beside its depth map: near pixels are red, far ones blue, and unknown ones black."""
    import cv2
    import numpy as np

    found = open_depths(depths, suffix)
    height, width = picture.shape[0] // 2 or 1, picture.shape[1] // 2 or 1
    # The map is sampled rather than resized, because it may be far larger than the picture.
    rows = np.linspace(0, found.shape[0] - 1, height).astype(int)
    columns = np.linspace(0, found.shape[1] - 1, width).astype(int)
    metres = np.asarray(found[rows][:, columns], dtype=np.float64)
    known = np.isfinite(metres) & (metres > 0)
    near, far = np.percentile(metres[known], [2, 98]) if known.any() else (0, 0)
    nearness = 1 - np.clip((np.where(known, metres, near) - near) / max(far - near, 1e-9), 0, 1)
    shown = (nearness * 255).astype(np.uint8)
    coloured = cv2.applyColorMap(shown, cv2.COLORMAP_TURBO)
    coloured[~known] = 0
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return np.hstack([small, coloured])


def read_shapes(label: Path, task: Task, keypoints: tuple[int, int]) -> Iterator[Shape]:
    """Yield the objects of a label file.

    Skips lines that contain fewer than five numbers, or anything other than finite numbers.
    """
    lines = read_lines(label, most_bytes=LABEL_BYTES, most_lines=LABEL_LINES, longest=LABEL_LINE)
    for _, line in lines:
        try:
            numbers = [float(text) for text in line.split()]
        except ValueError:
            continue
        if len(numbers) < BOX or not all(map(math.isfinite, numbers)):
            continue
        yield _parse_shape(int(numbers[0]), numbers[1:], task, keypoints)


def _parse_shape(class_id: int, values: Sequence[float], task: Task, keypoints: tuple[int, int]) -> Shape:
    columns = len(values) + 1
    has_keypoints = task in {"pose", "detect"} and columns == BOX + math.prod(keypoints)
    if columns >= OUTLINE and not has_keypoints:
        return Shape(class_id, tuple(zip(values[::2], values[1::2], strict=False)))
    x, y, width, height = values[:4]
    left, right, top, bottom = x - width / 2, x + width / 2, y - height / 2, y + height / 2
    box = ((left, top), (right, top), (right, bottom), (left, bottom))
    return Shape(class_id, box, _find_labelled_points(values[4:], keypoints[1]) if task == "pose" else ())


def _find_labelled_points(values: Sequence[float], dimensions: int) -> tuple[Point, ...]:
    """Return the keypoints whose visibility is not 0; return all if there are no visibilities."""
    step = dimensions or 2
    groups = [values[start : start + step] for start in range(0, len(values) - step + 1, step)]
    return tuple((group[0], group[1]) for group in groups if step == 2 or group[2])
