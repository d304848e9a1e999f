"""Our transforms give a sample the same bits as Ultralytics' own transforms with the same random numbers."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from ultralytics.cfg import get_cfg
from ultralytics.data.augment import Mosaic, RandomFlip, RandomHSV, RandomPerspective
from ultralytics.data.build import build_dataloader, build_yolo_dataset
from ultralytics.data.utils import check_det_dataset

from include.training.fast_transforms import FASTER, find_seen, find_transforms
from include.training.resumable_loader import seed_samples
from tests.support.plain_scans import plain_scans
from tests.support.tiny_datasets import MAPS, build

SIZE = 97
"""The image size, which is odd on purpose."""

SHAPES = [(97, 97), (61, 97), (97, 33), (200, 150), (150, 203), (30, 51), (20, 20), (3, 97), (500, 64)]
"""Heights and widths of images: equal to SIZE, larger and smaller."""

ALL_TASKS = ("detect", "segment", "pose", "obb", "semantic", "depth")


@pytest.fixture(autouse=True)
def memory_is_never_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill new arrays, so that a pixel that is read before it is written differs from Ultralytics' pixel."""
    monkeypatch.setattr(np, "empty", lambda shape, dtype=float: np.full(shape, 77, dtype))


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that builds a task's dataset on its first call."""
    return cache(lambda task: build_noisy(task, tmp_path_factory.mktemp(task)))


def build_noisy(task: str, folder: Path) -> Path:
    """Build a tiny dataset of fine and coarse noise images, in colour and grey, in many shapes."""
    data, rng = build(task, folder, train=2 * len(SHAPES), val=1), np.random.default_rng(0)
    for path in folder.glob("images/train/*.png"):
        number = int(path.stem)
        height, width = SHAPES[number % len(SHAPES)]
        coarse = rng.integers(0, 256, (height // 4 + 2, width // 4 + 2, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
        image[:, : width // 3] = rng.integers(0, 256, (height, width // 3, 3))
        cv2.imwrite(str(path), image[..., 0] if number % 5 == 0 else image)
        if task in MAPS:
            pixels = cv2.imread(str(folder / MAPS[task] / "train" / path.name), cv2.IMREAD_UNCHANGED)
            pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_NEAREST)
            cv2.imwrite(str(folder / MAPS[task] / "train" / path.name), pixels)
    return data


def dataset(task: str, data: Path, channels: int = 3, **arguments: Any) -> Any:
    """Return our training dataset for these arguments, without the buffer of recent images."""
    settings = get_cfg(overrides={"task": task, "imgsz": SIZE, **arguments})
    described = check_det_dataset(str(data)) | {"channels": channels}
    with plain_scans():
        images = build_yolo_dataset(settings, described["train"], 4, described)
    seed_samples(build_dataloader(images, 4, 0), seed=0, rank=0, replicas=1, on_gpu=False)
    return images


def assert_samples_are_as_ultralytics(images: Any, arguments: dict[str, Any], n: int = 4) -> None:
    faster, plain = images.transforms, images.build_transforms(copy(get_cfg(overrides=arguments)))
    for transform in (*find_transforms(faster), *find_transforms(plain)):
        if isinstance(transform, Mosaic):
            transform.n, transform.buffer_enabled = n, True
    for number in range(2 * len(images)):
        images.transforms = faster
        ours = images[number]
        images.transforms = plain
        theirs = images[number]
        assert ours.keys() == theirs.keys()
        assert {key for key in ours if not np.array_equal(ours[key], theirs[key])} == set(), number


@pytest.mark.parametrize("task", ALL_TASKS)
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"degrees": 20.0, "shear": 5.0, "scale": 0.9, "translate": 0.9, "flipud": 0.5, "mosaic": 0.5},
        {"mixup": 0.5, "cutmix": 0.5, "copy_paste": 0.5, "bgr": 0.5},
        {"copy_paste": 0.5, "copy_paste_mode": "mixup", "perspective": 0.001, "hsv_h": 0.0, "hsv_s": 0.0},
        {"rect": True, "hsv_h": 0.5, "hsv_s": 1.0, "hsv_v": 1.0},
    ],
    ids="-".join,
)
def test_samples_equal_those_of_ultralytics(
    task: str, arguments: dict[str, Any], noisy: Callable[[str], Path]
) -> None:
    images = dataset(task, noisy(task), **arguments)
    assert_samples_are_as_ultralytics(images, arguments)


def test_samples_of_640_pixels_equal_those_of_ultralytics(noisy: Callable[[str], Path]) -> None:
    """640 pixels are wide enough for OpenCV's vectorised loops."""
    images = dataset("detect", noisy("detect"), imgsz=640)
    assert_samples_are_as_ultralytics(images, {})


def test_outlines_drawn_as_masks_equal_those_of_ultralytics(noisy: Callable[[str], Path]) -> None:
    images = dataset("semantic", noisy("segment"))
    assert_samples_are_as_ultralytics(images, {})


def test_images_with_one_channel_equal_those_of_ultralytics(noisy: Callable[[str], Path]) -> None:
    images = dataset("detect", noisy("detect"), channels=1)
    assert images[0]["img"].shape == (1, SIZE, SIZE)
    assert_samples_are_as_ultralytics(images, {})


def test_mosaics_of_nine_images_equal_those_of_ultralytics(noisy: Callable[[str], Path]) -> None:
    images = dataset("detect", noisy("detect"))
    assert_samples_are_as_ultralytics(images, {}, n=9)


@pytest.mark.parametrize("task", ALL_TASKS)
def test_the_faster_transforms_are_used_until_training_ends(task: str, noisy: Callable[[str], Path]) -> None:
    images = dataset(task, noisy(task))
    slow = {Mosaic, *FASTER}
    assert {RandomPerspective, RandomHSV, RandomFlip} < slow
    assert not slow & set(map(type, find_transforms(images.transforms)))
    images.close_mosaic(get_cfg())
    assert not slow & set(map(type, find_transforms(images.transforms)))


def test_only_the_visible_part_of_a_mosaic_is_painted() -> None:
    magnified = np.array([[2, 0, -1000], [0, 2, -600]])
    assert find_seen(magnified, (640, 320), (1280, 1280)) == (slice(298, 463), slice(498, 823))


@pytest.mark.parametrize(
    "matrix",
    [
        [[1, 0, 5000], [0, 1, -5000]],  # moved out of view
        [[0, 0, 0], [0, 0, 0]],  # shrunk to nothing
        [[1e-12, 0, 0], [0, 1e-12, 0]],
    ],
)
def test_an_image_moved_out_of_view_equals_that_of_ultralytics(matrix: list[list[float]]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    params = {"M": np.array([*matrix, [0, 0, 1]], np.float32), "size": (64, 32)}
    theirs = RandomPerspective().apply_image({"img": image}, params)["img"]
    ours = FASTER[RandomPerspective]().apply_image({"img": image}, params)["img"]
    assert np.array_equal(ours, theirs)
