"""Broken images, labels and class folders are refused with their file and line."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest
from PIL import Image

from include.datasets.checking.kinds import KINDS, KindName
from include.datasets.errors import DatasetError
from tests.support.dataset_steps import check_dataset, check_here, refusal
from tests.support.tiny_datasets import build

if TYPE_CHECKING:
    from include.ultralytics_tasks import Task

BOX = "0 0.5 0.5 0.2 0.2"


def _truncated_jpeg(path: Path) -> None:
    Image.effect_noise((64, 64), 90).save(path, "JPEG", quality=95)
    path.write_bytes(path.read_bytes()[:1500])


def _truncated_bmp(path: Path) -> None:
    Image.new("RGB", (64, 64)).save(path, "BMP")
    os.truncate(path, 900)


def _dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nowhere/at/all.png")


IMAGE_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "empty (0 bytes)"),
    "text": (lambda path: path.write_text("no image"), "not an image"),
    "cut png": (lambda path: path.write_bytes(path.read_bytes()[:-300]), "damaged"),
    "cut jpeg": (_truncated_jpeg, "damaged"),
    "cut bmp": (_truncated_bmp, "damaged"),
    "dangling link": (_dangling_link, "leads outside the dataset"),
    "tiny": (lambda path: Image.new("RGB", (64, 5)).save(path), "64 x 5 pixels"),
    "gif": (lambda path: Image.new("RGB", (64, 64)).save(path, "GIF"), "format is GIF"),
}


@pytest.mark.parametrize("fault", IMAGE_FAULTS)
@pytest.mark.parametrize("task", ["detect", "classify"])
def test_an_unreadable_image_is_named(fault: str, task: Task, folder: Path, cache: Path) -> None:
    data = build(task, folder)
    damage, reason = IMAGE_FAULTS[fault]
    image = min(folder.rglob("val/**/*.png"))
    damage(image)
    message = refusal(data, task, cache)
    assert f"{image.relative_to(folder)}: " in message
    assert reason in message


@pytest.mark.parametrize(
    "line", ["0 nan 0.5 0.2 0.2" + " 0.1 0.1 2" * 4, "0 320 240 50 50" + " 0.1 0.1 2" * 4]
)
def test_the_reason_does_not_claim_that_ultralytics_skips_images_that_it_would_train_on(
    line: str, folder: Path, cache: Path
) -> None:
    data = build("pose", folder)
    (folder / "labels" / "train" / "3.txt").write_text(line)
    with pytest.raises(DatasetError) as refused:
        check_dataset(str(data), "pose", cache, None)
    (finding,) = refused.value.findings
    assert "would train on" in KINDS[finding.kind].reason


def test_every_kind_of_problem_has_a_title_and_a_remedy() -> None:
    assert get_args(KindName) == tuple(KINDS)


LABEL_FAULTS: list[tuple[str, str, str]] = [
    ("detect", "0 0.5 0.5 0.2", "the line has 4 columns, but task='detect' needs class x y width height"),
    ("detect", "0 0.5 0.5 0.2 0.2 0.9", "the line has 6 columns"),
    ("detect", "2 0.5 0.5 0.2 0.2", "class 2 is not in 0..1"),
    ("detect", "-1 0.5 0.5 0.2 0.2", "class -1 is not in 0..1"),
    ("detect", "0.5 0.5 0.5 0.2 0.2", "class 0.5 is not a whole number"),
    ("detect", "box 0.5 0.5 0.2 0.2", "column 1 is 'box', not a number"),
    ("detect", "0 nan 0.5 0.2 0.2", "column 2 is 'nan', not a finite number"),
    ("detect", "0 0.5 0.5 inf 0.2", "column 4 is 'inf', not a finite number"),
    ("detect", "0 320 240 50 50", "x = 320 is outside 0..1"),
    ("detect", "0 0.5 0.5 -0.005 0.2", "width = -0.005 is outside 0..1"),
    ("segment", BOX, "this is a detect label (5 columns), but task='segment'"),
    ("segment", "0 0.1 0.1 0.2 0.1 0.2", "the line has 6 columns"),
    ("segment", "0 0.1 0.1 0.2 0.1 0.2 0.2 0.1", "the line has 8 columns"),
    ("segment", "0 0.1 0.1 0.2 1.3 0.2 0.2", "height = 1.2 of the box around the outline is outside 0..1"),
    ("obb", BOX, "this is a detect label (5 columns), but task='obb'"),
    ("obb", "0 0.1 0.1 0.2 0.1 0.2", "needs class x1 y1 x2 y2 x3 y3 x4 y4 (9 columns, or an outline"),
    ("obb", "0 100 100 200 100 200 200 100 200", "x = 150 of the box around the outline is outside 0..1"),
    ("pose", BOX, "this is a detect label (5 columns), but task='pose'"),
    ("pose", f"{BOX} 0.1 0.1 2", "needs class x y width height and 4 x 3 values (17 columns)"),
    ("pose", f"{BOX} {'0.1 0.1 2 ' * 3} 7 0.1 2", "x4 = 7 is outside 0..1"),
    ("pose", f"{BOX} {'0.1 0.1 2 ' * 3} 0.1 0.1 -1", "visibility4 = -1 is negative"),
    ("pose", f"3.5 0.5 0.5 0.2 0.2 {'0.1 0.1 2 ' * 4}", "class 3.5 is not a whole number"),
    ("pose", f"0 320 240 50 50 {'0.1 0.1 2 ' * 4}", "the box lies outside the image"),
]


@pytest.mark.parametrize(("task", "line", "reason"), LABEL_FAULTS)
def test_a_malformed_label_is_named_with_its_file_and_line(
    task: Task, line: str, reason: str, folder: Path, cache: Path
) -> None:
    data = build(task, folder)
    label = folder / "labels" / "train" / "3.txt"
    label.write_text(label.read_text().splitlines()[0] + "\n\n" + line + "\n")
    message = refusal(data, task, cache)
    assert "has 1 problem" in message
    assert "labels/train/3.txt:3: " in message
    assert reason in message


def test_labels_of_one_task_are_refused_for_another(folder: Path, cache: Path) -> None:
    message = refusal(build("detect", folder), "segment", cache)
    assert "this is a detect label (5 columns), but task='segment' needs" in message


def test_outlines_are_accepted_for_detection_as_in_ultralytics(folder: Path, cache: Path) -> None:
    data = build("segment", folder)
    check_here(data, "detect", cache)
    label = folder / "labels" / "train" / "1.txt"
    label.write_text(label.read_text() + BOX)
    assert "labels/train/1.txt:3: boxes and outlines are mixed" in refusal(data, "detect", cache)


def test_corners_beyond_the_border_are_accepted_for_oriented_boxes(folder: Path, cache: Path) -> None:
    data = build("obb", folder)
    (folder / "labels" / "train" / "0.txt").write_text("0 0.9 -0.05 1.1 0.1 1.0 0.2 0.8 0.1\n")
    check_here(data, "obb", cache)


@pytest.mark.parametrize("text", ["\ufeff" + BOX, BOX.replace(" ", "\t") + "\r\n", f"\n\n{BOX}\n\n", ""])
def test_harmless_variations_of_a_label_file_are_accepted(text: str, folder: Path, cache: Path) -> None:
    data = build("detect", folder)
    (folder / "labels" / "train" / "0.txt").write_bytes(text.encode())
    check_here(data, "detect", cache)


def test_a_label_file_in_another_encoding_is_named(folder: Path, cache: Path) -> None:
    data = build("detect", folder)
    (folder / "labels" / "val" / "1.txt").write_bytes(BOX.encode("utf-16"))
    assert "labels/val/1.txt: it is not valid UTF-8" in refusal(data, "detect", cache)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_any_label_is_refused_with_the_expected_location(
    split: str, folder: Path, cache: Path
) -> None:
    data = build("detect", folder)
    (folder / "labels" / split).rename(folder / "labels" / f"{split}_labels")
    message = refusal(data, "detect", cache)
    assert f"labels/{split}/0.txt: no image of {split} has a label file" in message


def test_a_split_whose_labels_are_all_empty_is_refused(folder: Path, cache: Path) -> None:
    data = build("detect", folder)
    for label in (folder / "labels" / "train").iterdir():
        label.write_text("")
    assert "train: all label files are empty" in refusal(data, "detect", cache)


def test_a_few_images_without_labels_are_background(folder: Path, cache: Path) -> None:
    data = build("detect", folder)
    (folder / "labels" / "train" / "0.txt").unlink()
    assert check_here(data, "detect", cache).train_images == 8


def test_at_most_twenty_findings_are_listed_and_the_rest_is_counted(folder: Path, cache: Path) -> None:
    data = build("detect", folder)
    (folder / "labels" / "train" / "2.txt").write_text("9 0.5 0.5 0.1 0.1\n" * 30)
    lines = refusal(data, "detect", cache).splitlines()
    assert "30 problems" in lines[0]
    assert lines[1].startswith("  Label lines with an unknown class (30); correct the class ids")
    assert lines[2].strip().startswith("labels/train/2.txt:1: ")
    assert lines[21].strip().startswith("labels/train/2.txt:20: ")
    assert lines[22:] == ["    ... and 10 more"]


def test_problems_are_listed_by_kind_and_no_kind_crowds_out_another(folder: Path, cache: Path) -> None:
    data = build("detect", folder)
    (folder / "labels" / "train" / "2.txt").write_text("9 0.5 0.5 0.1 0.1\n" * 30)
    (folder / "labels" / "val" / "1.txt").write_text("0 320 0.5 0.1 0.1\n")
    (folder / "images" / "val" / "0.png").write_bytes(b"")
    lines = refusal(data, "detect", cache).splitlines()
    assert "32 problems" in lines[0]
    headings = [line.split(" (")[0].strip() for line in lines if line.startswith("  ") and line[2] != " "]
    assert headings == [
        "Images that training cannot use",
        "Label lines with an unknown class",
        "Label lines with a position outside the image",
    ]
    assert any("images/val/0.png: the file is empty" in line for line in lines)
    assert any("labels/val/1.txt:1: x = 320 is outside 0..1" in line for line in lines)


def test_a_class_that_occurs_only_in_val_is_named(folder: Path, cache: Path) -> None:
    build("classify", folder)
    shutil.copytree(folder / "val" / "box", folder / "val" / "unknown")
    message = refusal(folder, "classify", cache)
    assert "val/unknown/: there is no class of this name in train/" in message


def test_a_folder_without_images_is_not_a_class(folder: Path, cache: Path) -> None:
    build("classify", folder)
    (folder / "train" / "weights").mkdir()
    (folder / "train" / "weights" / "best.txt").write_text("of an earlier run")
    reference = check_here(folder, "classify", cache)
    assert (reference.classes, reference.warnings) == ({0: "arrow", 1: "box"}, 1)


def test_a_missing_split_of_class_folders_is_refused(folder: Path, cache: Path) -> None:
    build("classify", folder)
    (folder / "val").rename(folder / "evaluation")
    assert "has no val/ next to train/" in refusal(folder, "classify", cache)
    shutil.rmtree(folder / "train")
    (folder / "other").mkdir()
    assert "has no train/" in refusal(folder, "classify", cache)


def test_hidden_folders_are_not_classes(folder: Path, cache: Path) -> None:
    build("classify", folder)
    (folder / "train" / ".ipynb_checkpoints").mkdir()
    assert sorted(check_here(folder, "classify", cache).classes.values()) == ["arrow", "box"]


def test_a_yaml_for_classify_is_refused(folder: Path, cache: Path) -> None:
    assert "classify needs a folder" in refusal(build("detect", folder), "classify", cache)
