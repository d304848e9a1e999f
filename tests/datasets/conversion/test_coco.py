"""COCO annotations in any tool's layout become the same labels as with Ultralytics' own converter."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import yaml
from ultralytics.data import converter

from include.datasets.conversion.coco import convert_coco
from include.datasets.conversion.files import ConvertedFiles
from include.datasets.conversion.outlines import decode_mask
from tests.support.coco_datasets import KEYPOINTS, SIDES, Coco, build_coco, draw_image, mask, rle

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.ultralytics_tasks import Task

OPTIONS: Mapping[str, dict[str, bool]] = {
    "detect": {},
    "segment": {"use_segments": True},
    "pose": {"use_keypoints": True},
}
REAL_IDS = tuple(
    index + 1 for index, number in enumerate(converter.coco91_to_coco80_class()) if number is not None
)


def convert(folder: Path, work: Path, task: Task = "detect", named: str | None = None) -> dict[str, str]:
    """Convert the folder in this process; return the text of each label file by its name."""
    files = ConvertedFiles(work)
    files.dataset.mkdir(parents=True)
    assert convert_coco(str(folder), "mine", None, named, task, str(work)) is not None
    return {name: path.read_text() for name, path in files.list_files() if name.startswith("labels/")}


def described(work: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((work / "dataset" / "data.yaml").read_text()))


@pytest.mark.parametrize("task", OPTIONS)
@pytest.mark.parametrize(
    ("ids", "is_coco"), [((1, 2, 3), False), (REAL_IDS, True)], ids=["1 to n", "COCO's 91"]
)
def test_labels_equal_those_of_ultralytics(
    ids: tuple[int, ...], is_coco: bool, task: Task, tmp_path: Path
) -> None:
    folder = build_coco(tmp_path / "data", ids)
    ours = convert(folder, tmp_path / "work", task)
    converter.convert_coco(
        str(folder / "annotations"), str(tmp_path / "theirs"), cls91to80=is_coco, **OPTIONS[task]
    )
    theirs = {
        f"labels/{split}/{path.name}": path.read_text()
        for split in ("train", "val")
        for path in (tmp_path / "theirs" / "labels" / f"{split}2017").glob("*.txt")
    }
    assert ours == theirs
    assert len(ours) == 6
    assert all(text.count("\n") > 5 for text in ours.values())


def test_images_without_annotations_are_kept_as_background(tmp_path: Path) -> None:
    labels = convert(build_coco(tmp_path / "data"), tmp_path / "work")
    assets = {asset.name: asset.path for asset in ConvertedFiles(tmp_path / "work").read_asset_list()}
    assert len(assets) == 8
    assert assets["images/val/background.png"] == str(tmp_path / "data" / "val2017" / "background.png")
    assert "labels/val/background.txt" not in labels


@pytest.mark.parametrize("compressed", [True, False])
def test_a_mask_becomes_the_outlines_that_opencv_finds(compressed: bool, tmp_path: Path) -> None:
    folder, drawn = build_coco(tmp_path / "data"), mask(3)
    made = Coco()
    made.category(1, "class 1")
    made.image(1, "train2017-0.png")
    made.annotate(1, 1, segmentation=rle(drawn, compressed=compressed))
    made.category(2, "class 2")
    made.write(folder / "annotations" / "instances_train2017.json")
    (line,) = convert(folder, tmp_path / "work", "segment")["labels/train/train2017-0.txt"].splitlines()
    contours = cv2.findContours(drawn, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    joined = np.concatenate(converter.merge_multi_segment([each.ravel().tolist() for each in contours]))
    assert line.split() == ["0", *(f"{number:g}" for number in (joined / SIDES).ravel())]


def test_polygons_of_many_points_are_joined_at_their_closest_points(tmp_path: Path) -> None:
    """The 600 points of each circle are more than the converter compares at a time."""
    angles = np.linspace(0, 2 * np.pi, 600, endpoint=False)
    circles = [
        np.stack([x + 9 * np.cos(angles + turned), y + 9 * np.sin(angles + turned)], axis=1).ravel().tolist()
        for x, y, turned in ((15, 20, 0.1), (48, 24, 2.0), (30, 38, 4.0))
    ]
    made = Coco()
    made.category(1, "class 1")
    made.image(1, "train2017-0.png")
    made.annotate(1, 1, segmentation=circles)
    folder = build_coco(tmp_path / "data")
    made.category(2, "class 2")
    made.write(folder / "annotations" / "instances_train2017.json")
    (line,) = convert(folder, tmp_path / "work", "segment")["labels/train/train2017-0.txt"].splitlines()
    joined = np.concatenate(converter.merge_multi_segment(circles))
    assert line.split() == ["0", *(f"{number:g}" for number in (joined / SIDES).ravel())]


def test_a_mask_encoded_by_the_coco_api_is_decoded() -> None:
    # A small number takes one character; from the fourth number on, only the difference to the number two
    # places before it is encoded.
    decoded = decode_mask("522030", 6, 3)
    assert decoded.T.ravel().tolist() == [0] * 5 + [1] * 2 + [0] * 2 + [1] * 2 + [0] * 5 + [1] * 2
    assert decode_mask([0, 18], 6, 3).all()


@pytest.mark.parametrize(
    "counts", ["", "5", [17], [-1, 19], "~~~", "\x10", ["5"], None, "o" * 100, [10**30], "PPPP", [1.0, 17]]
)
def test_a_broken_mask_is_refused(counts: Any) -> None:
    with pytest.raises(ValueError, match="counts"):
        decode_mask(counts, 6, 3)


LAYOUTS = {
    "Roboflow": ("train/_annotations.coco.json", "train/{}", "valid/_annotations.coco.json", "valid/{}"),
    "COCO": ("annotations/instances_train2017.json", "train2017/{}", "annotations/instances_val2017.json",
             "val2017/{}"),
    "COCO in images/": ("annotations/train.json", "images/train/{}", "annotations/val.json", "images/val/{}"),
    "CVAT": ("annotations/instances_Train.json", "images/Train/{}", "annotations/instances_Validation.json",
             "images/Validation/{}"),
    "flat": ("train.json", "images/{}", "val.json", "images/{}"),
    "FiftyOne": ("train/labels.json", "train/data/{}", "validation/labels.json", "validation/data/{}"),
    "one folder in the zip": ("export/train/a.json", "export/train/images/{}", "export/val/a.json",
                              "export/val/images/{}"),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layouts_of_common_tools_are_understood(layout: str, tmp_path: Path) -> None:
    train, train_images, val, val_images = LAYOUTS[layout]
    for split, file, place in (("t", train, train_images), ("v", val, val_images)):
        made = Coco()
        made.category(1, "cat")
        for index in range(2):
            draw_image(tmp_path / "data" / place.format(f"{split}{index}.png"), index)
            made.image(index, f"{split}{index}.png")
            made.annotate(index, 1)
        made.write(tmp_path / "data" / file)
    labels = convert(tmp_path / "data", tmp_path / "work")
    names = [("train", "t0"), ("train", "t1"), ("val", "v0"), ("val", "v1")]
    assert labels == {
        f"labels/{split}/{name}.txt": "0 0.21875 0.3125 0.3125 0.375\n" for split, name in names
    }


def test_one_file_is_split_by_the_folders_of_its_images(tmp_path: Path) -> None:
    made = Coco()
    made.category(7, "cat")
    for key, name in enumerate(["train/station.png", "val/train.png"]):
        draw_image(tmp_path / "data" / "images" / name, key)
        made.image(key, name)
        made.annotate(key, 7)
    made.write(tmp_path / "data" / "result.json")
    assert sorted(convert(tmp_path / "data", tmp_path / "work")) == [
        "labels/train/train/station.txt",
        "labels/val/val/train.txt",
    ]


def test_naming_one_annotation_file_selects_it_and_that_of_the_other_split(tmp_path: Path) -> None:
    folder = build_coco(tmp_path / "data")
    for split in ("train2017", "val2017"):
        shutil.copy(
            folder / "annotations" / f"instances_{split}.json", folder / "annotations" / f"old_{split}.json"
        )
    labels = convert(folder, tmp_path / "work", named="annotations/instances_val2017.json")
    assert len(labels) == 6


def test_annotation_files_of_one_split_may_name_an_image_by_different_paths(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for file, name, left in (("train_a", "1.png", 4), ("train_b", "train/1.png", 8), ("val", "2.png", 4)):
        made = Coco()
        made.category(1, "cat")
        made.image(1, name)
        made.annotate(1, 1, (left, 6, 20, 18))
        made.write(data / f"{file}.json")
    draw_image(data / "train" / "1.png", 1)
    draw_image(data / "val" / "2.png", 2)
    labels = convert(data, tmp_path / "work")
    assert {name: text.count("\n") for name, text in labels.items()} == {
        "labels/train/train/1.txt": 2,
        "labels/val/2.txt": 1,
    }


def test_the_annotation_files_of_coco_are_chosen_by_task(tmp_path: Path) -> None:
    folder = build_coco(tmp_path / "data")
    for split in ("train2017", "val2017"):
        (folder / "annotations" / f"captions_{split}.json").write_text('{"images": [], "annotations": [{}]}')
        people = Coco()
        people.category(1, "person", keypoints=KEYPOINTS)
        people.image(1, f"{split}-0.png")
        people.annotate(1, 1, keypoints=[1, 2, 2, 3, 4, 1, 0, 0, 0])
        people.write(folder / "annotations" / f"person_keypoints_{split}.json")
    assert len(convert(folder, tmp_path / "boxes")) == 6
    assert len(convert(folder, tmp_path / "people", "pose")) == 2
    assert described(tmp_path / "people") == {
        "train": "images/train",
        "val": "images/val",
        "names": {0: "person"},
        "kpt_shape": [3, 3],
        "kpt_names": {0: KEYPOINTS},
        "flip_idx": [0, 2, 1],
    }


def test_the_parent_category_that_roboflow_adds_does_not_become_a_class(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        made = Coco()
        made.category(0, "animals", supercategory="none")
        made.category(1, "cat", supercategory="animals")
        made.category(2, "dog", supercategory="animals")
        draw_image(tmp_path / "data" / split / "1.png", 1)
        made.image(1, "1.png")
        made.annotate(1, 2)
        made.write(tmp_path / "data" / split / "_annotations.coco.json")
    labels = convert(tmp_path / "data", tmp_path / "work")
    assert described(tmp_path / "work")["names"] == {0: "cat", 1: "dog"}
    assert labels["labels/train/1.txt"].startswith("1 ")
