"""The bundled data: real handwritten digits, composed into small scenes for detection.

The scans are the "Optical Recognition of Handwritten Digits" of the UCI Machine Learning Repository (E.
Alpaydin and C. Kaynak, 1998, CC BY 4.0, https://doi.org/10.24432/C50P49), in the copy that scikit-learn ships
(BSD 3-Clause): 1,797 digits, written by 13 people. Each has 8 x 8 pixels; a pixel's value from 0 to 16 is the
amount of ink.

A scene is a grey image of 64 x 64 pixels with up to four digits of random size and position on dark, noisy
paper. Training and validation scenes have no scan in common. Every machine generates the same bytes. Pixels
are computed with integers. The only source of randomness is `random.Random.random`: Python guarantees its
sequence for a given seed in all versions. The PNG files hold uncompressed pixels, because compressors differ.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.datasets.errors import DatasetError
from include.datasets.reference import ClassCount, DatasetReference

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np

    from include.datasets.rules import Split

SCENES: dict[Split, int] = {"train": 400, "val": 100}
"""The number of scenes of each split; there are no scenes for `test`."""
SCENE_PIXELS = 64
MOST_DIGITS = 4
DIGIT_PIXELS = (20, 36)
SEED = 1797

FINGERPRINT = "290eb5f589f9a7fe586f1a4531cce3394a7318c7c7879e045915409a6cabd8ec"
"""Fingerprint of the scenes, the same on every machine; `materialize` verifies it."""

SIZE = 2151012
"""Total size of all images and labels in bytes."""

_COUNTS: dict[Split, tuple[int, ...]] = {
    "train": (72, 83, 85, 72, 80, 86, 78, 72, 84, 76),
    "val": (24, 14, 13, 28, 19, 21, 15, 13, 18, 21),
}
"""How often each digit occurs in the scenes of each split."""

_SCENES_WITH: dict[Split, tuple[int, ...]] = {
    "train": (66, 73, 79, 69, 77, 80, 71, 67, 79, 71),
    "val": (23, 14, 12, 26, 17, 18, 14, 12, 17, 20),
}
"""The number of scenes in which each digit occurs."""

Scan = tuple[int, Sequence[Sequence[int]]]


@dataclass(frozen=True)
class PlacedDigit:
    """One digit in a scene."""

    digit: int
    """The digit, 0 to 9, which is also the class id."""
    left: int
    """Distance of its box from the left edge of the scene, in pixels."""
    top: int
    """Distance of its box from the upper edge of the scene, in pixels."""
    width: int
    """Width of its box in pixels."""
    height: int
    """Height of its box in pixels."""

    def touches(self, other: PlacedDigit) -> bool:
        """Return whether the two boxes overlap or are directly adjacent."""
        return (
            self.left <= other.left + other.width
            and other.left <= self.left + self.width
            and self.top <= other.top + other.height
            and other.top <= self.top + self.height
        )

    def build_label(self) -> str:
        """Return the box as a line of a YOLO label file."""
        x = (2 * self.left + self.width) / (2 * SCENE_PIXELS)
        y = (2 * self.top + self.height) / (2 * SCENE_PIXELS)
        return (
            f"{self.digit} {x:.6f} {y:.6f} {self.width / SCENE_PIXELS:.6f} {self.height / SCENE_PIXELS:.6f}\n"
        )


class Dice:
    """Integers from `random.Random.random`, the only method whose sequence Python guarantees."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random  # noqa: S311 - no secret depends on it

    def draw_below(self, limit: int) -> int:
        """Draw a number from 0 to `limit` - 1."""
        return int(self._random() * limit)

    def draw_many_below(self, limit: int, count: int) -> list[int]:
        """Draw `count` numbers from 0 to `limit` - 1."""
        draw = self._random
        return [int(draw() * limit) for _ in range(count)]

    def draw_between(self, low: int, high: int) -> int:
        """Draw a number from `low` to `high`, inclusive."""
        return low + self.draw_below(high - low + 1)

    def shuffle(self, cards: list[Scan]) -> None:
        """Shuffle in place (Fisher-Yates)."""
        for last in range(len(cards) - 1, 0, -1):
            other = self.draw_below(last + 1)
            cards[last], cards[other] = cards[other], cards[last]


def build_reference(split: Split = "val") -> DatasetReference:
    """Return a reference to the scenes without drawing them: they are always the same and need no check.

    `split` is the validation split. Raises DatasetError if the scenes do not have that split.
    """
    if split not in SCENES:
        raise DatasetError(
            f"split={split!r}: the bundled digits have no such split; leave out `split`, or give your own "
            "dataset"
        )
    return DatasetReference(
        source="digits",
        task="detect",
        split=split,
        fingerprint=FINGERPRINT,
        train_images=SCENES["train"],
        val_images=SCENES[split],
        classes={digit: str(digit) for digit in range(10)},
        class_table=tuple(
            ClassCount(
                name=str(digit),
                train=_COUNTS["train"][digit],
                val=_COUNTS[split][digit],
                train_images=_SCENES_WITH["train"][digit],
                val_images=_SCENES_WITH[split][digit],
            )
            for digit in range(10)
        ),
        size=SIZE,
    )


def write_digits(root: Path) -> None:
    """Write all scenes with their labels and a data YAML below `root`, an existing empty directory."""
    decks = deal(load_scans())
    for seed, (split, count) in enumerate(SCENES.items(), start=SEED):
        images, labels = root / "images" / split, root / "labels" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for number, (pixels, placed) in enumerate(compose_scenes(decks[split], count, Dice(seed))):
            (images / f"scene-{number:03d}.png").write_bytes(encode_png(pixels))
            (labels / f"scene-{number:03d}.txt").write_text("".join(digit.build_label() for digit in placed))
    names = "".join(f"  {digit}: '{digit}'\n" for digit in range(10))
    (root / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames:\n{names}")


def deal(scans: list[Scan]) -> dict[Split, list[Scan]]:
    """Assign every fifth scan to the validation scenes and the others to the training scenes."""
    return {"val": scans[::5], "train": [scan for index, scan in enumerate(scans) if index % 5]}


def load_scans() -> list[Scan]:
    """Return the scans as (digit, rows of ink from 0 to 16), cropped to the ink."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return [
        (int(digit), cut_to_ink(image.astype(int)))
        for digit, image in zip(digits.target, digits.images, strict=True)
    ]


def cut_to_ink(image: np.ndarray) -> list[list[int]]:
    """Drop the empty rows and columns around the digit, so that its box is tight."""
    rows, columns = image.nonzero()
    cut: list[list[int]] = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].tolist()
    return cut


def compose_scenes(
    scans: list[Scan], count: int, dice: Dice
) -> Iterator[tuple[list[bytearray], list[PlacedDigit]]]:
    """Compose `count` scenes. A digit that does not fit is tried again, in the same scene or the next."""
    deck = list(scans)
    dice.shuffle(deck)
    for _ in range(count):
        pixels = draw_background(dice)
        placed: list[PlacedDigit] = []
        for _ in range(dice.draw_between(1, MOST_DIGITS)):
            if deck and (digit := find_free_box(deck[-1], placed, dice)):
                draw(pixels, deck.pop()[1], digit, ink=dice.draw_between(150, 255))
                placed.append(digit)
        yield pixels, placed


def draw_background(dice: Dice) -> list[bytearray]:
    """Return dark paper with a little noise."""
    shade = dice.draw_below(50)
    return [
        bytearray(shade + noise for noise in dice.draw_many_below(20, SCENE_PIXELS))
        for _ in range(SCENE_PIXELS)
    ]


def find_free_box(scan: Scan, taken: list[PlacedDigit], dice: Dice) -> PlacedDigit | None:
    """Find free space for a digit of random size; None after eight failed attempts."""
    digit, rows = scan
    for _ in range(8):
        height = dice.draw_between(*DIGIT_PIXELS)
        width = max(4, height * len(rows[0]) // len(rows))
        if width >= SCENE_PIXELS:
            continue
        left, top = dice.draw_below(SCENE_PIXELS - width + 1), dice.draw_below(SCENE_PIXELS - height + 1)
        candidate = PlacedDigit(digit, left, top, width, height)
        if not any(candidate.touches(other) for other in taken):
            return candidate
    return None


def draw(pixels: list[bytearray], rows: Sequence[Sequence[int]], digit: PlacedDigit, ink: int) -> None:
    """Enlarge the scan to its box (bilinearly, with integer weights in units of 1/256); blend it in."""
    columns = [interpolate(x, digit.width, len(rows[0])) for x in range(digit.width)]
    for y in range(digit.height):
        above, below, weight_y = interpolate(y, digit.height, len(rows))
        line = pixels[digit.top + y]
        for x, (left, right, weight_x) in enumerate(columns, start=digit.left):
            upper = rows[above][left] * (256 - weight_x) + rows[above][right] * weight_x
            lower = rows[below][left] * (256 - weight_x) + rows[below][right] * weight_x
            cover = upper * (256 - weight_y) + lower * weight_y  # 0 to 16 * 65536
            line[x] += (ink - line[x]) * cover // (16 << 16)


def interpolate(index: int, size: int, source_size: int) -> tuple[int, int, int]:
    """Return the two source indices around pixel `index` of `size`, and the second's weight in 1/256."""
    position = (2 * index + 1) * source_size * 128 // size - 128
    position = min(max(position, 0), (source_size - 1) * 256)
    first = position // 256
    return first, min(first + 1, source_size - 1), position % 256


def encode_png(pixels: list[bytearray]) -> bytes:
    """Encode grey pixels as a PNG whose data is one stored (uncompressed) deflate block."""
    raw = b"".join(b"\0" + bytes(row) for row in pixels)
    stored = (
        b"\x78\x01\x01"
        + struct.pack("<HH", len(raw), len(raw) ^ 0xFFFF)
        + raw
        + struct.pack(">I", zlib.adler32(raw))
    )
    header = struct.pack(">IIBBBBB", len(pixels[0]), len(pixels), 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + frame_chunk(b"IHDR", header)
        + frame_chunk(b"IDAT", stored)
        + frame_chunk(b"IEND", b"")
    )


def frame_chunk(kind: bytes, body: bytes) -> bytes:
    """Frame one PNG chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
