"""Training data: the bundled digits, and JPEG photographs with digits in them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.datasets.digits import SCENES, load_scans, write_digits

if TYPE_CHECKING:
    import numpy as np

PHOTO_SIZE = (640, 426)
"""Width and height of the photographs in pixels."""


def make_digits(folder: Path) -> tuple[Path, int]:
    """Write the bundled scenes of 64 pixels; return the YAML and the number of training images."""
    folder.mkdir()
    write_digits(folder)
    return folder / "data.yaml", SCENES["train"]


def make_photos(folder: Path, train: int, val: int, drawn: int = 400) -> tuple[Path, int]:
    """Write photographs of 640 pixels, about 100 kB each; return the YAML and the number of training images.

    Each is one of the two photographs that scikit-learn ships, mirrored and brightened at random, with up to
    six digits to find. Only the first `drawn` are distinct; the others are links to them, which take just as
    long to read.
    """
    from sklearn.datasets import load_sample_images

    dice = random.Random(0)  # noqa: S311 - no secret depends on it
    backgrounds, scans = load_sample_images().images, load_scans()
    for split, count in (("train", train), ("val", val)):
        images, labels = folder / "images" / split, folder / "labels" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for number in range(count):
            image, label = images / f"{number:05d}.jpg", labels / f"{number:05d}.txt"
            if number < drawn:
                label.write_text("".join(_photo(dice, dice.choice(backgrounds), scans, image)))
            else:
                image.hardlink_to(images / f"{number % drawn:05d}.jpg")
                label.hardlink_to(labels / f"{number % drawn:05d}.txt")
    names = "".join(f"  {digit}: '{digit}'\n" for digit in range(10))
    (folder / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames:\n{names}")
    return folder / "data.yaml", train


def _photo(dice: random.Random, background: np.ndarray, scans: list[Any], path: Path) -> list[str]:
    """Draw a photograph with each digit in its own column, and return its labels."""
    import cv2
    import numpy as np

    width, height = PHOTO_SIZE
    image = background[:height, :width, ::-1] * dice.uniform(0.5, 1.0)
    image = image[:, :: dice.choice((1, -1))].copy()
    lines, columns = [], 6
    for column in range(dice.randint(1, columns)):
        digit, rows = dice.choice(scans)
        tall = dice.randint(40, 140)
        wide = min(max(8, tall * len(rows[0]) // len(rows)), width // columns - 1)
        ink = cv2.resize(np.array(rows, np.float32) / 16, (wide, tall))[:, :, None]
        left, top = column * (width // columns), dice.randint(0, height - tall)
        area = image[top : top + tall, left : left + wide]
        area += (dice.randint(150, 255) - area) * ink
        box = ((left + wide / 2) / width, (top + tall / 2) / height, wide / width, tall / height)
        lines.append(f"{digit} {' '.join(f'{number:.6f}' for number in box)}\n")
    cv2.imwrite(str(path), image.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return lines
