"""Datasets from bug reports, each with the outcome that its users expect."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from include.datasets.checking.validate import ValidationResult, validate_dataset
from include.datasets.errors import DatasetError
from include.datasets.layouts.layout import read_layout
from include.datasets.layouts.samples import DatasetLocation, Layout
from include.datasets.rules import check_rules
from tests.datasets.checking.test_like_ultralytics import IMAGES
from tests.support.dataset_steps import describe
from tests.support.tiny_datasets import build

if TYPE_CHECKING:
    from include.ultralytics_tasks import Task


def _layout(folder: Path, task: Task) -> Layout:
    return read_layout(DatasetLocation(folder, "s3://bucket/data/", folder), task)


def check(folder: Path, task: Task, **arguments: object) -> ValidationResult:
    """Return the check's findings; run in this process, because starting another takes a second."""
    return validate_dataset(_layout(folder, task), "s3://bucket/data/", check_rules(arguments))


def warnings(folder: Path, task: Task, **arguments: object) -> dict[str, int]:
    return {kind.kind: kind.count for kind in check(folder, task, **arguments).warnings}


def refusal(folder: Path, task: Task, **arguments: object) -> str:
    with pytest.raises(DatasetError) as refused:
        check(folder, task, **arguments)
    return str(refused.value)


UNDECODABLE = ["F.tif", "I.tif", "zstd.tif", "bad filter.png", "only its head.jpg"]


@pytest.mark.parametrize("task", ["detect", "classify"])
@pytest.mark.parametrize("name", UNDECODABLE)
def test_an_image_that_training_cannot_decode_is_named_with_its_format(
    name: str, task: Task, folder: Path
) -> None:
    build(task, folder, train=3, val=2)
    image = min(folder.rglob("val/**/*.png"))
    image.unlink()
    replaced = image.with_suffix(Path(name).suffix)
    replaced.write_bytes(IMAGES[name]())
    message = refusal(folder, task)
    kind = {".tif": "TIFF", ".png": "PNG", ".jpg": "JPEG"}[replaced.suffix]
    assert f"{replaced.relative_to(folder)}: it is a {kind} " in message
    assert "convert" in message
    assert "Images that training cannot decode (1)" in message


@pytest.mark.parametrize(
    "line",
    [
        "0 0.25 0.25 0.75 0.25 0.8 0.5 0.75 0.75 0.25 0.75",
        "0 0.25 0.25 0.5 0.2 0.75 0.25 0.8 0.5 0.75 0.75 0.5 0.8 0.25 0.75",
        "0 0.25 0.25 0.75 0.25 0.5 0.75",
    ],
    ids=["five corners", "seven corners", "three corners"],
)
def test_oriented_boxes_may_be_outlines(line: str, folder: Path) -> None:
    build("obb", folder)
    (folder / "labels" / "train" / "0.txt").write_text(f"{line}\n")
    assert not warnings(folder, "obb")


@pytest.mark.parametrize("vertex", ["1.03", "-0.05"])
@pytest.mark.parametrize("task", ["segment", "obb", "detect"])
def test_a_vertex_may_lie_outside_the_image(vertex: str, task: Task, folder: Path) -> None:
    build("segment", folder)
    low, high = sorted((float(vertex), 0.6))
    outline = f"0 {low} 0.25 {high} 0.25 {high} 0.75 {low} 0.75\n"
    (folder / "labels" / "train" / "0.txt").write_text(outline)
    assert warnings(folder, task) == {"outside": 1}


def test_coordinates_slightly_above_1_are_not_reported_as_pixels(folder: Path) -> None:
    build("detect", folder)
    label = folder / "labels" / "train" / "0.txt"
    label.write_text("0 1.3 0.5 0.1 0.1\n")
    assert "x = 1.3 is outside 0..1\n" in f"{refusal(folder, 'detect')}\n"
    label.write_text("0 40 30 20 20\n")
    assert "x = 40 is outside 0..1; the image is 64 x 64 pixels, so the value seems to be" in refusal(
        folder, "detect"
    )
    label.write_text("0 4000 30 20 20\n")
    assert "x = 4000 is outside 0..1\n" in f"{refusal(folder, 'detect')}\n"


def test_with_single_cls_any_class_is_valid(folder: Path) -> None:
    build("detect", folder)
    describe(folder, names=["object"])
    (folder / "labels" / "train" / "0.txt").write_text("0 0.5 0.5 0.5 0.5\n5 0.3 0.3 0.2 0.2\n")
    assert "class 5 is not in 0..0: names has 1 class" in refusal(folder, "detect")
    (count,) = check(folder, "detect", single_cls=True).class_table
    assert count.name == "item"
    assert count.train == sum(
        len(file.read_text().splitlines()) for file in (folder / "labels" / "train").iterdir()
    )
    (folder / "labels" / "train" / "0.txt").write_text("0.5 0.5 0.5 0.5 0.5\n")
    assert "class 0.5 is not a whole number" in refusal(folder, "detect", single_cls=True)


@pytest.mark.parametrize("visibility", ["0.97", "3"])
def test_any_visibility_but_zero_counts_as_visible(visibility: str, folder: Path) -> None:
    build("pose", folder)
    keypoint = f"0.4 0.4 {visibility} "
    (folder / "labels" / "train" / "0.txt").write_text(f"0 0.5 0.5 0.5 0.5 {keypoint * 4}\n")
    assert warnings(folder, "pose") == {"visibility": 1}


@pytest.mark.parametrize("count", ["2", "2.0", " 2 ", 2.0])
def test_the_number_of_classes_may_be_a_string(count: object, folder: Path) -> None:
    build("detect", folder)
    describe(folder, nc=count)
    assert len(check(folder, "detect").class_table) == 2


def _link_up(folder: Path) -> str:
    (folder / "images" / "train" / "again").symlink_to(".")
    return "images/train/again"


def _link_to_a_parent(folder: Path) -> str:
    (folder / "images" / "train" / "again").symlink_to("..")
    return "images/train/again"


def _links_to_each_other(folder: Path) -> str:
    for name, other in (("one", "two"), ("two", "one")):
        (folder / "images" / "train" / name).mkdir()
        (folder / "images" / "train" / name / "link").symlink_to(f"../{other}")
    return "images/train/one/link/link"


@pytest.mark.parametrize("link", [_link_up, _link_to_a_parent, _links_to_each_other])
def test_a_circular_link_is_reported_and_not_followed(link: Callable[[Path], str], folder: Path) -> None:
    build("detect", folder)
    place = link(folder)
    layout = _layout(folder, "detect")
    assert len(layout.splits["train"]) == 8, "plain Ultralytics would train on each image about 40 times"
    (kind,) = (kind for kind in check(folder, "detect").warnings if kind.kind == "circular-links")
    assert place in [found.file for found in kind.places]


@pytest.mark.parametrize("task", ["detect", "classify"])
def test_images_that_ultralytics_skips_are_reported(task: Task, folder: Path) -> None:
    build(task, folder)
    place = min(folder.rglob("train/**/*.png")).parent
    for name in ("a.gif", "b.GIF", "c.jfif", "notes.txt", ".hidden.gif"):
        (place / name).write_bytes(b"GIF89a")
    (kind,) = check(folder, task).warnings
    found = [str(found) for found in kind.places]
    skipped = place.relative_to(folder)
    assert found == [f"{skipped}/: files that end in .gif: 2", f"{skipped}/: files that end in .jfif: 1"]


def test_a_link_to_another_folder_is_followed(folder: Path) -> None:
    build("classify", folder)
    (folder / "more").mkdir()
    shutil.move(folder / "train" / "box" / "0.png", folder / "more" / "0.png")
    (folder / "train" / "box" / "linked").symlink_to("../../more")
    assert not warnings(folder, "classify")
    assert len(_layout(folder, "classify").splits["train"]) == 8


def test_duplicates_are_named_within_and_across_splits(folder: Path) -> None:
    build("detect", folder)
    for target in ("train/7.png", "train/6.png", "val/1.png"):
        shutil.copy(folder / "images" / "train" / "0.png", folder / "images" / target)
    found = {kind.kind: [str(place) for place in kind.places] for kind in check(folder, "detect").warnings}
    assert found == {
        "duplicate-images": [
            "images/train/6.png: images/train/0.png has the same content",
            "images/train/7.png: images/train/0.png has the same content",
        ],
        "leaked-images": ["images/val/1.png: images/train/0.png of train has the same content"],
    }


def test_an_image_that_is_listed_twice_is_not_a_duplicate(folder: Path) -> None:
    build("detect", folder)
    images = [f"images/train/{path.name}" for path in sorted((folder / "images" / "train").iterdir())]
    (folder / "train.txt").write_text("\n".join([*images, *images[:3]]))
    describe(folder, train="train.txt", path=None)
    assert not warnings(folder, "detect")


def test_each_probable_mistake_causes_a_warning(folder: Path) -> None:
    build("detect", folder)
    describe(folder, names=["box", "arrow", "arrow"])
    labels = folder / "labels"
    (labels / "train" / "0.txt").unlink()
    (labels / "train" / "1.txt").write_text(" \n")
    (labels / "train" / "2.txt").write_text("0 0.5 0.5 0.02 0.5\n1 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.5 0.5\n")
    for label in (labels / "val").iterdir():
        label.write_text("0 0.5 0.5 0.5 0.5\n")
    (labels / "val" / "0.txt").write_text("0 0.1 0.1 0.2 0.1 0.2 0.2\n")
    assert warnings(folder, "detect") == {
        "duplicate-rows": 1,
        "missing-labels": 1,
        "empty-labels": 1,
        "tiny-boxes": 1,
        "mixed-labels": 1,
        "class-unseen": 1,
        "class-unvalidated": 1,
        "class-names": 1,
    }


def test_only_the_chosen_classes_count(folder: Path) -> None:
    build("detect", folder)
    box, arrow = check(folder, "detect", classes=[1]).class_table
    assert (box.train, box.val, arrow.train > 0, arrow.val > 0) == (0, 0, True, True)
    assert "class 7 is not in 0..1, so training would ignore it" in refusal(folder, "detect", classes=[0, 7])
    for label in (folder / "labels" / "train").iterdir():
        label.write_text("0 0.5 0.5 0.5 0.5\n")
    assert "no label has one of the chosen classes" in refusal(folder, "detect", classes=1)


def test_validation_images_need_labels_only_if_training_validates(folder: Path) -> None:
    build("detect", folder)
    for label in (folder / "labels" / "val").iterdir():
        label.unlink()
    message = refusal(folder, "detect")
    assert "labels/val/0.txt: no image of val has a label file" in message
    assert "best.pt is chosen by the metrics on this split" in message
    assert warnings(folder, "detect", val=False) == {"missing-labels": 4, "class-unvalidated": 2}


def test_the_class_table_counts_objects_and_images(folder: Path) -> None:
    build("detect", folder)
    for split in ("train", "val"):
        for label in (folder / "labels" / split).iterdir():
            label.write_text("0 0.5 0.5 0.5 0.5\n")
    (folder / "labels" / "train" / "0.txt").write_text(
        "1 0.5 0.5 0.5 0.5\n0 0.3 0.3 0.2 0.2\n0 0.6 0.6 0.2 0.2\n"
    )
    box, arrow = check(folder, "detect").class_table
    assert (box.train, box.train_images, box.val, box.val_images) == (9, 8, 4, 4)
    assert (arrow.train, arrow.train_images, arrow.val, arrow.val_images) == (1, 1, 0, 0)


def test_an_image_with_the_wrong_number_of_channels_is_named(folder: Path) -> None:
    build("detect", folder)
    describe(folder, channels=4)
    assert "it has 3 channels, but the data YAML says channels: 4" in refusal(folder, "detect")
    for image in (folder / "images").rglob("*.png"):
        Image.open(image).convert("RGBA").save(image)
    assert not warnings(folder, "detect")


def test_class_folders_are_divided_as_in_ultralytics(folder: Path) -> None:
    from ultralytics.data.split import split_classify_dataset

    for name in ("cat", "dog"):
        (folder / name / "more").mkdir(parents=True)
        for number in range(11):
            image = folder / name / ("more" if number % 3 else "") / f"{number}.png"
            Image.effect_noise((16, 16), 10 + number).save(image)
    divided = split_classify_dataset(folder)
    layout = _layout(folder, "classify")
    for split in ("train", "val"):
        expected = sorted(str(path.relative_to(divided / split)) for path in (divided / split).rglob("*.png"))
        assert [sample.name for sample in layout.splits[split]] == expected
    assert warnings(folder, "classify") == {"divided": 1}
    (folder / "cat" / "0.gif").write_bytes(b"GIF89a")
    (kind,) = (kind for kind in check(folder, "classify").warnings if kind.kind == "unread-images")
    assert str(kind.places[0]) == "cat/: files that end in .gif: 1"


def test_label_files_that_belong_to_no_image_are_named(folder: Path) -> None:
    build("detect", folder)
    (folder / "labels" / "train" / "gone.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (folder / "labels" / "classes.txt").write_text("box\narrow\n")
    (folder / "labels" / "train" / "classes.txt").write_text("box\narrow\n")
    (kind,) = (kind for kind in check(folder, "detect").warnings if kind.kind == "unused-labels")
    assert list(map(str, kind.places)) == ["labels/train/: files that belong to no image: 1"]


def test_images_outside_of_the_class_folders_are_named(folder: Path) -> None:
    build("classify", folder)
    for name in ("train", "val"):
        Image.new("RGB", (16, 16)).save(folder / name / "nowhere.png")
    (kind,) = (kind for kind in check(folder, "classify").warnings if kind.kind == "classless-images")
    assert list(map(str, kind.places)) == [
        "train/: images outside of the class folders: 1",
        "val/: images outside of the class folders: 1",
    ]


def test_a_folder_that_has_only_val_is_not_divided(folder: Path) -> None:
    build("classify", folder)
    (folder / "train").rename(folder / "images")
    with pytest.raises(DatasetError, match="has no train/; classify needs"):
        _layout(folder, "classify")


@pytest.mark.parametrize("method", ["read_bytes", "stat"])
def test_a_disk_error_does_not_make_an_image_invalid(
    method: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build("detect", folder)
    layout, works = _layout(folder, "detect"), getattr(Path, method)

    def fail(path: Path, **options: object) -> object:
        if path.name == "3.png":
            raise OSError(errno.EIO, "Input/output error")
        return works(path, **options)

    monkeypatch.setattr(Path, method, fail)
    with pytest.raises(OSError, match="Input/output error"):
        validate_dataset(layout, "s3://bucket/data/")
    monkeypatch.undo()
    validate_dataset(layout, "s3://bucket/data/")
