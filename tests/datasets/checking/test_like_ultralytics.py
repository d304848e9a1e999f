"""The check accepts the files that Ultralytics trains on: here both judge the same files."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from PIL import Image

from include.datasets.checking.images import ImageRules, UnusableImage, read_image
from include.datasets.checking.label_lines import CheckedLabels, LabelRules
from include.datasets.checking.labels import check_labels

if TYPE_CHECKING:
    from include.ultralytics_tasks import Task

SIZE = (64, 48)


def _noise(mode: str = "RGB", size: tuple[int, int] = SIZE) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)


def _encode(mode: str, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    _noise(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def _turned(kind: str) -> bytes:
    exif = Image.Exif()
    exif[274] = 6
    return _encode("RGB", kind, exif=exif)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png(data: bytes) -> bytes:
    """Return a PNG of 64 x 48 pixels with correct checksums around the given pixel data."""
    header = struct.pack(">IIBBBBB", *SIZE, 8, 2, 0, 0, 0)
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(data)), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _headonly(jpeg: bytes) -> bytes:
    """Return the JPEG cut off where its pixels begin."""
    return jpeg[: jpeg.index(b"\xff\xda")] + b"\xff\xd9"


def _array(suffix: str, array: np.ndarray) -> bytes:
    return bytes(cv2.imencode(suffix, array)[1])


def _plane(dtype: str, channels: int = 0) -> np.ndarray:
    shape = (SIZE[1], SIZE[0], channels) if channels else (SIZE[1], SIZE[0])
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


JPEG = _encode("RGB", "JPEG")
IMAGES: dict[str, Callable[[], bytes]] = {
    **{f"{mode}.png": partial(_encode, mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")},
    **{f"{mode}.jpg": partial(_encode, mode, "JPEG") for mode in ("L", "RGB", "CMYK")},
    **{f"{mode}.bmp": partial(_encode, mode, "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")},
    **{
        f"{mode}.tif": partial(_encode, mode, "TIFF")
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "F", "I", "I;16", "YCbCr")
    },
    **{
        f"{name}.tif": partial(_encode, "RGB", "TIFF", compression=name)
        for name in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits", "zstd", "lzma")
    },
    "16bit.png": lambda: _array(".png", _plane("uint16", 3)),
    "16bit.tiff": lambda: _array(".tif", _plane("uint16", 3)),
    "float colours.tif": lambda: _array(".tif", _plane("float32", 3)),
    "float64.tif": lambda: _array(".tif", _plane("float64")),
    "four pages.tif": lambda: bytes(cv2.imencodemulti(".tif", [_plane("uint8")] * 4)[1]),
    "a tiff.jpg": lambda: _encode("RGB", "TIFF"),
    "a jpeg.tif": lambda: JPEG,
    "a png.avif": lambda: _encode("RGB", "PNG"),
    "lossy.webp": lambda: _encode("RGB", "WEBP"),
    "lossless.webp": lambda: _encode("RGBA", "WEBP", lossless=True),
    "RGB.jp2": lambda: _encode("RGB", "JPEG2000"),
    "L.jp2": lambda: _encode("L", "JPEG2000"),
    "RGB.avif": lambda: _encode("RGB", "AVIF"),
    "turned.avif": lambda: _turned("AVIF"),
    "RGB.mpo": lambda: _encode("RGB", "MPO", save_all=True, append_images=[_noise()]),
    "turned.jpg": lambda: _turned("JPEG"),
    "turned.png": lambda: _turned("PNG"),
    "turned.webp": lambda: _turned("WEBP"),
    "turned.tif": lambda: _turned("TIFF"),
    "progressive.jpg": lambda: _encode("RGB", "JPEG", progressive=True),
    "a gif.png": lambda: _encode("P", "GIF"),
    "without its end.jpg": lambda: JPEG[:-2],
    "with data behind it.jpg": lambda: JPEG + b"of a phone",
    f"{'a' * 217}.jpg": lambda: JPEG + b"of a phone",
    f"{'a' * 218}.jpg": lambda: JPEG + b"of a phone",
    f"{'가' * 83}.jpeg": lambda: JPEG,
    "cut.jpg": lambda: JPEG[:1500],
    "cut, with an end.jpg": lambda: JPEG[:1500] + b"\xff\xd9",
    "only its head.jpg": lambda: _headonly(JPEG),
    "only its head, turned.jpg": lambda: _headonly(_turned("JPEG")),
    "bad filter.png": lambda: _png(bytes([9]) * (48 * (64 * 3 + 1))),
    "too short.png": lambda: _png(bytes(48 * 64)),
    "no pixels.png": lambda: _png(b""),
    "bad checksum.png": lambda: _encode("RGB", "PNG").replace(b"IDAT", b"IDAU", 1),
    "cut.bmp": lambda: _encode("RGB", "BMP")[:900],
    "cut.webp": lambda: _encode("RGB", "WEBP")[:900],
    "cut.tif": lambda: _encode("RGB", "TIFF")[:-900],
    "text.jpg": lambda: b"no image",
    "empty.jpg": lambda: b"",
}


def _as_ultralytics(path: Path, channels: int, *, classify: bool) -> tuple[int, int] | None:
    """Return the image's width and height if training can use it; Ultralytics may rewrite the file."""
    from ultralytics.data.dataset import ClassificationDataset
    from ultralytics.data.utils import check_image
    from ultralytics.utils.patches import imread

    try:
        _, (height, width) = check_image(str(path))
        if classify:
            array = ClassificationDataset.imread(str(path))
        else:
            flags = {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR}.get(channels, cv2.IMREAD_UNCHANGED)
            array = imread(path, flags)
    except Exception:
        return None
    wanted = 3 if classify else channels
    if array is None or array.dtype != np.uint8 or (array.shape[2] if array.ndim > 2 else 1) != wanted:
        return None
    return width, height


@pytest.mark.parametrize("reader", [1, 3, 4, "classify"])
def test_an_image_is_accepted_if_ultralytics_can_train_on_it(reader: int | str, tmp_path: Path) -> None:
    classify = reader == "classify"
    channels = 3 if classify else int(reader)
    ours, plain = {}, {}
    for name, encode in IMAGES.items():
        file = tmp_path / name
        file.write_bytes(encode())
        ours[name] = _as_checked(file, ImageRules(channels, classify))
        plain[name] = _as_ultralytics(file, channels, classify=classify)
    assert ours == plain
    assert {None, SIZE} <= set(plain.values()), "some images are good, and some are not"


def _as_checked(path: Path, rules: ImageRules) -> tuple[int, int] | None:
    try:
        facts = read_image(path, path.name, rules)
    except UnusableImage:
        return None
    return facts.width, facts.height


USUAL = ("0.5", "0.25", "0.75", "0.1", "0.3")
NUMBERS = (
    "0", "1", "0.5", "0.25", "-0.005", "-0.01", "-0.0100001", "1.01", "1.0100001", "1.02", "1.3", "-0.3", "2",
    "nan", "inf", "-0", "320", "1e-3", "x", "0.0",
)  # fmt: skip
CLASSES = ("0", "1", "1.0", "2", "-1", "0.5", "-0.005", "1.0000001", "0.99999999")


def _lines(rng: random.Random, columns: tuple[int, ...]) -> Iterator[str]:
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        count = rng.choice(columns)
        usual = ("0.5", "0.25", "0.75", "0.1", "0.3")
        numbers = [
            rng.choice(usual) if rng.random() < 0.93 else rng.choice(NUMBERS) for _ in range(count - 1)
        ]
        line = " ".join([rng.choice(CLASSES[:2] if rng.random() < 0.9 else CLASSES), *numbers])
        yield line
        if rng.random() < 0.2:
            yield line
        if rng.random() < 0.1:
            yield rng.choice(("", "  \t"))


COLUMNS = {
    "detect": (5, 5, 5, 5, 5, 7, 9, 17, 6, 3, 1),
    "segment": (7, 7, 9, 9, 11, 17, 5, 6, 3, 1),
    "obb": (9, 9, 9, 7, 11, 13, 5, 8, 3),
    "pose": (17, 17, 17, 17, 17, 5, 16),
}
STRICTER = ("the box lies outside the image", "not a finite number")
"""Reasons why the check refuses some labels that Ultralytics trains on."""


CASES = [
    ("detect", (0, 0), False),
    ("detect", (4, 3), True),
    ("segment", (0, 0), False),
    ("segment", (4, 3), False),
    ("obb", (0, 0), True),
    ("pose", (4, 3), False),
    ("pose", (6, 2), False),
]


@pytest.mark.parametrize(("task", "keypoints", "single_cls"), CASES)
def test_labels_are_accepted_if_ultralytics_trains_on_them(
    task: Task, keypoints: tuple[int, int], single_cls: bool, tmp_path: Path
) -> None:
    from ultralytics.data.utils import verify_image_label

    image, label = tmp_path / "0.png", tmp_path / "0.txt"
    _noise().save(image)
    rng, seen = random.Random(0), {True: 0, False: 0}
    for _ in range(400):
        label.write_text("\n".join(_lines(rng, COLUMNS[task])))
        arguments = (str(image), str(label), "", task == "pose", 2, *keypoints, single_cls)
        _, rows, _, segments, _, _, _, _, corrupt, message = verify_image_label(arguments)
        # Ultralytics' verify_labels refuses a whole dataset for a single box among outlines.
        good = not corrupt and (task in {"detect", "pose"} or len(segments) == len(rows))
        checked = check_labels(label, LabelRules(task, 2, keypoints, single_cls), SIZE)
        reasons = [problem.message for problem in checked.problems]
        if good and any(reason in problem for problem in reasons for reason in STRICTER):
            continue
        seen[good] += 1
        assert good == (not reasons), (label.read_text(), reasons, message)
        if good:
            _compare(checked, rows, message)
    assert min(seen.values()) > 40, "the test must compare both good and bad labels"


def _compare(checked: CheckedLabels, rows: np.ndarray, message: str) -> None:
    """Compare the labels that both keep, and the number of duplicates that both report."""
    assert checked.objects == len(rows)
    assert sum(checked.classes.values()) == len(rows)
    repeated = int(message.rpartition(": ")[2].split()[0]) if "duplicate labels removed" in message else 0
    assert checked.warned["duplicate-rows"] == repeated
