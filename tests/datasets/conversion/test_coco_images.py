"""Each image of a COCO file is found, in its own split, and has the shape that its annotations assume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from include.datasets.conversion.coco import convert_coco
from include.datasets.conversion.files import ConvertedFiles
from include.datasets.errors import DatasetError
from tests.datasets.conversion.test_coco import convert
from tests.support.coco_datasets import SIDES, Coco, build_coco, coco_split, draw_image


def build_numbered(folder: Path, folders: tuple[str, str]) -> Path:
    """Build train.json and val.json, whose images have the same names, in two folders."""
    for split, place, images in (("train", folders[0], 3), ("val", folders[1], 2)):
        made = Coco()
        made.category(1, "cat")
        for number in range(images):
            draw_image(folder / place / f"{number}.png", number)
            made.image(number, f"{number}.png")
            made.annotate(number, 1)
        made.write(folder / f"{split}.json")
    return folder


@pytest.mark.parametrize(
    "folders",
    [("train_images", "val_images"), ("images-train", "images-val"), ("a/training/x", "a/validation/x")],
    ids=str,
)
def test_images_of_two_splits_may_have_the_same_names(folders: tuple[str, str], tmp_path: Path) -> None:
    data = build_numbered(tmp_path / "data", folders)
    convert(data, tmp_path / "work")
    assets = {asset.name: asset.path for asset in ConvertedFiles(tmp_path / "work").read_asset_list()}
    assert assets == {
        f"images/{split}/{number}.png": str(data / folder / f"{number}.png")
        for split, folder, images in (("train", folders[0], 3), ("val", folders[1], 2))
        for number in range(images)
    }


def test_a_missing_image_is_not_taken_from_another_split(tmp_path: Path) -> None:
    data = build_numbered(tmp_path / "data", ("train_images", "val_images"))
    (data / "val_images" / "1.png").unlink()
    with pytest.raises(DatasetError, match=r"val.json: image 1 .* is not in the dataset"):
        convert(data, tmp_path / "work")


def test_images_that_equally_likely_folders_have_are_refused(tmp_path: Path) -> None:
    data = build_numbered(tmp_path / "data", ("one", "two"))
    with pytest.raises(DatasetError, match="several images of the dataset have this name"):
        convert(data, tmp_path / "work")


def test_an_image_is_not_taken_from_a_folder_within_the_folder_that_has_it(tmp_path: Path) -> None:
    data = build_numbered(tmp_path / "data", ("set/train", "set/val"))
    for number in range(3):
        draw_image(data / "set" / "train" / "previews" / f"{number}.png", number)
    convert(data, tmp_path / "work")
    assets = {asset.name: asset.path for asset in ConvertedFiles(tmp_path / "work").read_asset_list()}
    assert assets["images/train/1.png"] == str(data / "set" / "train" / "1.png")


def test_a_split_may_be_a_part_of_the_images_of_another_folder(tmp_path: Path) -> None:
    data = build_numbered(tmp_path / "data", ("train_images", "train_images"))
    assert len(convert(data, tmp_path / "work")) == 5


def build_photo(folder: Path, annotated: tuple[int, int], tag: str = "exif") -> Path:
    """Build a dataset whose photo, of SIDES, is turned by 90 degrees according to its EXIF or XMP data."""
    folder = build_coco(folder)
    exif = Image.Exif()
    exif[274] = 6
    turned: dict[str, dict[str, Any]] = {
        "exif": {"exif": exif},
        "xmp": {"xmp": b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'},
        "none": {},
    }
    Image.new("RGB", SIDES).save(folder / "train2017" / "photo.jpg", **turned[tag])
    made = coco_split(1, [], (1, 2, 3))
    made.images = []
    made.image(1, "photo.jpg", width=annotated[0], height=annotated[1])
    made.annotate(1, 1)
    made.write(folder / "annotations" / "instances_train2017.json")
    return folder


@pytest.mark.parametrize(
    ("annotated", "tag"),
    [
        (SIDES[::-1], "exif"),
        ((480, 640), "exif"),  # labels are fractions of the size, so another scale is fine
        ((24, 32), "exif"),
        (SIDES, "none"),
        (SIDES, "xmp"),  # OpenCV ignores it
        ((1001, 751), "none"),
    ],
)
def test_an_image_may_have_another_scale_than_in_the_annotations(
    annotated: tuple[int, int], tag: str, tmp_path: Path
) -> None:
    folder = build_photo(tmp_path / "data", annotated, tag)
    ConvertedFiles(tmp_path / "work").dataset.mkdir(parents=True)
    notes = convert_coco(str(folder), "mine", None, None, "detect", str(tmp_path / "work"))
    assert notes is not None
    assert not any("aspect ratio" in note for note in notes)


def test_annotations_that_ignore_the_rotation_of_a_photo_are_refused(tmp_path: Path) -> None:
    folder = build_photo(tmp_path / "data", SIDES)
    with pytest.raises(DatasetError, match=r"train2017/photo.jpg: its width and height are swapped"):
        convert(folder, tmp_path / "work")


def test_images_of_another_shape_than_in_the_annotations_are_counted(tmp_path: Path) -> None:
    folder = build_photo(tmp_path / "data", (64, 64), "none")
    ConvertedFiles(tmp_path / "work").dataset.mkdir(parents=True)
    notes = convert_coco(str(folder), "mine", None, None, "detect", str(tmp_path / "work"))
    assert notes is not None
    assert notes["images have another aspect ratio than in the annotations, so labels may be shifted"] == 1
