"""Samples of any dataset are drawn with their labels, and stored once per content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from include.datasets.check import inspect_dataset
from include.datasets.drawing.draw import (
    INDEX,
    MOST_SAMPLES,
    draw_depths,
    draw_mask,
    draw_samples,
    read_shapes,
)
from include.datasets.drawing.store import SampleStore
from include.datasets.layouts.samples import DatasetLocation
from include.datasets.s3 import S3ObjectReader
from include.s3.bucket import Bucket
from tests.support.dataset_steps import upload_zip
from tests.support.tiny_datasets import TASKS, build

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.datasets.rules import Split
    from include.ultralytics_tasks import Task


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "drawn"


def draw(folder: Path, task: Task, target: Path, split: Split = "val") -> list[dict[str, str]]:
    """Draw samples of the dataset in the folder; return the entries of their index."""
    location = DatasetLocation(folder.resolve(), "test", folder.resolve())
    draw_samples(location.as_json(), task, split, str(target))
    return list(json.loads((target / INDEX).read_bytes()))


@pytest.mark.parametrize("task", TASKS)
def test_labels_of_every_task_are_drawn(task: Task, tmp_path: Path, target: Path) -> None:
    build(task, tmp_path / "data", train=30, val=2, size=96)
    drawn = draw(tmp_path / "data", task, target)
    assert [each["split"] for each in drawn] == ["train"] * 8 + ["val"] * 2
    assert len({each["image"] for each in drawn if each["split"] == "train"}) == 8
    for each in drawn:
        picture = cv2.imread(str(target / each["name"]))
        assert picture is not None
        # A depth map is drawn beside its image.
        assert picture.shape == ((48, 96, 3) if task == "depth" else (96, 96, 3))
        images = tmp_path / "data" / ("" if task == "classify" else "images")
        original = cv2.imread(str(images / each["split"] / each["image"]))
        assert original is not None
        shown = original if task != "depth" else np.hstack([cv2.resize(original, (48, 48))] * 2)
        assert (cv2.absdiff(picture, shown).max(axis=2) > 50).sum() > 100
    assert MOST_SAMPLES == 12


def test_all_samples_are_of_train_if_train_is_also_the_validation_split(tmp_path: Path, target: Path) -> None:
    build("detect", tmp_path / "data", train=30, val=2)
    drawn = draw(tmp_path / "data", "detect", target, "train")
    assert [each["split"] for each in drawn] == ["train"] * MOST_SAMPLES
    assert len({each["image"] for each in drawn}) == MOST_SAMPLES


def test_outlines_are_drawn_for_semantic_as_for_segment(tmp_path: Path, target: Path) -> None:
    build("segment", tmp_path / "data", train=2, val=1)
    drawn = draw(tmp_path / "data", "semantic", target)
    pictures = [(target / each["name"]).read_bytes() for each in drawn]
    draw(tmp_path / "data", "segment", target)
    assert pictures == [(target / each["name"]).read_bytes() for each in drawn]


def test_a_large_image_is_scaled_down(tmp_path: Path, target: Path) -> None:
    build("detect", tmp_path / "data", train=1, val=1)
    image = tmp_path / "data/images/train/0.png"
    cv2.imwrite(str(image), np.zeros((1000, 2000, 3), np.uint8))
    draw(tmp_path / "data", "detect", target)
    picture = cv2.imread(str(target / "0.jpg"))
    assert picture is not None
    assert picture.shape == (320, 640, 3)


@pytest.mark.parametrize(
    "label",
    [
        b"",
        b"\xff\xfe",
        b"0 0.5",
        b"0 nan 0.5 1 1\n0 inf 0 1 1",
        b"0 1e300 -1e300 1e300 1e300",
        b"-7 0.5 0.5 0.5 0.5\n99999999999 0.5 0.5 0.5 0.5",
        b"0 " + b"0.1 " * 20_000,
        b"0 0.5 0.5 0 0",
    ],
    ids=range(8),
)
def test_an_invalid_label_does_not_break_the_drawing(label: bytes, tmp_path: Path, target: Path) -> None:
    build("segment", tmp_path / "data", train=1, val=1)
    (tmp_path / "data/labels/train/0.txt").write_bytes(label)
    drawn = draw(tmp_path / "data", "segment", target)
    assert len(drawn) == 2


def test_an_image_that_cannot_be_decoded_is_omitted(tmp_path: Path, target: Path) -> None:
    build("detect", tmp_path / "data", train=3, val=1)
    (tmp_path / "data/images/train/1.png").write_bytes(b"no image")
    drawn = draw(tmp_path / "data", "detect", target)
    assert [each["image"] for each in drawn] == ["0.png", "2.png", "0.png"]
    assert sorted(path.name for path in target.iterdir()) == ["0.jpg", "1.jpg", "2.jpg", INDEX]


def test_unlabelled_keypoints_are_not_drawn(tmp_path: Path) -> None:
    label = tmp_path / "0.txt"
    label.write_text("1 0.5 0.5 1 1 0.1 0.2 2 0 0 0 0.3 0.4 0.97\n")
    (shape,) = read_shapes(label, "pose", (3, 3))
    assert shape.keypoints == ((0.1, 0.2), (0.3, 0.4))
    assert shape.outline == ((0, 0), (1, 0), (1, 1), (0, 1))


def test_samples_of_a_checked_dataset_are_stored_and_fetched(
    tmp_path: Path, target: Path, s3_client: S3Client, bucket: str
) -> None:
    build("detect", tmp_path / "data", train=2, val=1)
    source = upload_zip(s3_client, bucket, tmp_path / "data")
    reader = S3ObjectReader(s3_client)
    found = inspect_dataset(source, "detect", tmp_path / "cache", reader, samples=target).reference
    store = SampleStore(Bucket(s3_client, bucket))
    assert store.list(found.fingerprint, "detect") == []
    store.store(found.fingerprint, "detect", target)
    drawn = store.list(found.fingerprint, "detect")
    assert [(each.name, each.split, each.image) for each in drawn] == [
        ("0.jpg", "train", "0.png"),
        ("1.jpg", "train", "1.png"),
        ("2.jpg", "val", "0.png"),
    ]
    first = store.fetch(found.fingerprint, "detect", "0.jpg")
    assert first is not None
    assert first.content == (target / "0.jpg").read_bytes()
    known = store.fetch(found.fingerprint, "detect", "0.jpg", first.etag)
    assert known is not None
    assert known.content is None
    for name in ("3.jpg", INDEX, "../0.jpg", "0.jpg\n"):
        assert store.fetch(found.fingerprint, "detect", name) is None


def test_a_mask_is_drawn_in_the_colours_of_its_mapped_classes(tmp_path: Path) -> None:
    mask = np.array([[7, 1], [255, 200]], np.uint8)
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    picture = np.full((2, 2, 3), 100, np.uint8)
    drawn = draw_mask(picture, tmp_path / "mask.png", {7: 1, 200: 255})
    assert (drawn[0, 0] == drawn[0, 1]).all()
    assert (drawn[0, 0] != 100).any()
    assert (drawn[1] == 100).all()


@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_a_depth_map_is_drawn_from_near_to_far(suffix: str, tmp_path: Path) -> None:
    metres = np.array([[0, 1], [5, 9]], np.float32).repeat(8, 0).repeat(8, 1)
    file = tmp_path / f"depth{suffix}"
    if suffix == ".npy":
        np.save(file, np.where(metres == 0, np.nan, metres))
    else:
        cv2.imwrite(str(file), (metres * 1000).astype(np.uint16))
    drawn = draw_depths(np.full((32, 32, 3), 100, np.uint8), file, suffix)
    assert drawn.shape == (16, 32, 3)
    unknown, near, far = drawn[2, 18], drawn[2, 30], drawn[14, 30]
    assert (unknown == 0).all()
    assert near[2] > near[0]  # near pixels are red
    assert far[2] < 100 or far[0] > far[2]
