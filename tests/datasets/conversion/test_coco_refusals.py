"""Errors in COCO annotations are reported by kind, with their locations, a count and a remedy."""

from __future__ import annotations

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

from include.datasets.conversion import coco, coco_file
from include.datasets.conversion.coco import convert_coco
from include.datasets.conversion.convert import find_foreign
from include.datasets.conversion.files import ConvertedFiles
from include.datasets.errors import DatasetError
from include.datasets.layouts.samples import DatasetLocation
from tests.support.coco_datasets import SIDES, Coco, build_coco, draw_image
from tests.support.strangers import as_stranger

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.ultralytics_tasks import Task


def good() -> Coco:
    made = Coco()
    made.category(1, "class 1")
    made.category(2, "class 2")
    for key in (1, 2):
        made.image(key, f"train2017-{key}.png")
        made.annotate(key, key)
    return made


def refusal(folder: Path, work: Path, task: Task = "detect", named: str | None = None) -> str:
    ConvertedFiles(work).dataset.mkdir(parents=True)
    with pytest.raises(DatasetError) as refused:
        convert_coco(str(folder), "mine", None, named, task, str(work))
    assert not list(folder.parent.rglob("outside*.txt"))
    return str(refused.value)


def edit(kind: str, index: int = 0, **values: Any) -> Callable[[Coco], None]:
    def change(made: Coco) -> None:
        getattr(made, kind)[index].update(values)

    return change


def remove(kind: str, key: str) -> Callable[[Coco], None]:
    return lambda made: getattr(made, kind)[0].pop(key)


REFUSED: dict[str, tuple[Callable[[Coco], None], str]] = {
    "a name that leads out": (edit("images", file_name="../../outside.png"), "leads outside through '..'"),
    "an absolute name": (edit("images", file_name="/etc/outside.png"), "absolute path"),
    "a name for Windows": (edit("images", file_name="C:\\outside.png"), "backslash"),
    "a name that is a number": (edit("images", file_name=7), "file_name is missing"),
    "an image in a different format": (
        edit("images", file_name="a.gif"),
        "not one that Ultralytics reads as an image",
    ),
    "a missing image": (edit("images", file_name="gone.png"), "image 1 .*the image is not in the dataset"),
    "no width": (remove("images", "width"), "width is missing; add"),
    "a width of zero": (edit("images", width=0), "whole numbers of pixels"),
    "a huge width": (edit("images", width=10**8, height=10**8), "it exceeds the limit of 178 megapixels"),
    "a width that is a text": (edit("images", width="64"), "whole numbers of pixels"),
    "the same id for two images": (edit("images", 1, id=1), "image 1: another image has the same id"),
    "an id that is a list": (edit("images", id=[1]), "id must be a whole number or a string"),
    "an unknown image": (edit("annotations", image_id=77), "annotation 1: image_id matches no image"),
    "an image id that is a list": (edit("annotations", image_id=[1]), "image_id matches no image"),
    "an unknown category": (edit("annotations", category_id=77), "category_id matches no category"),
    "a category id of another kind": (
        edit("annotations", category_id=True),
        "category_id matches no category",
    ),
    "two names for one id": (edit("categories", 1, id=1), "another category has the same id"),
    "a name with a line break": (edit("categories", name="a\nb"), "single-line string"),
    "no box": (remove("annotations", "bbox"), "bbox is missing; add"),
    "a box of three numbers": (edit("annotations", bbox=[1, 2, 3]), "bbox must be"),
    "a box with a text": (edit("annotations", bbox=[1, 2, 3, "4"]), "bbox must be"),
    "a box that is not a number": (edit("annotations", bbox=[1, 2, 3, float("nan")]), "bbox must be"),
    "a box of infinite width": (edit("annotations", bbox=[1, 2, float("inf"), 4]), "bbox must be"),
    "a box with a huge number": (edit("annotations", bbox=[10**300, 2, 3, 4]), "bbox must be"),
    "an outline that is not a number": (
        edit("annotations", segmentation=[[1, 2, 3, float("nan"), 5, 6]]),
        "outline contains a coordinate that is not finite",
    ),
    "an outline of too many points": (edit("annotations", segmentation=[[1, 2] * 11_000]), "simplify it"),
    "a mask that does not fit": (
        edit("annotations", segmentation={"size": list(SIDES[::-1]), "counts": [5]}),
        "add up to 5 pixels",
    ),
    "an annotation that is a number": (lambda made: made.annotations.append(5), "is not an object"),  # type: ignore[arg-type]
    "an annotation that is null": (lambda made: made.annotations.append(None), "is not an object"),  # type: ignore[arg-type]
    "no categories": (lambda made: made.categories.clear(), "no categories"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_every_mistake_has_its_own_error_message(case: str, tmp_path: Path) -> None:
    change, sentence = REFUSED[case]
    folder, made = build_coco(tmp_path / "data"), good()
    change(made)
    made.write(folder / "annotations" / "instances_train2017.json")
    message = refusal(folder, tmp_path / "work", "segment")
    assert "annotations/instances_train2017.json" in message
    assert re.search(sentence, message), message


def test_every_problem_is_among_the_twenty_listed_places_and_all_are_counted(tmp_path: Path) -> None:
    folder, made = build_coco(tmp_path / "data"), good()
    for _ in range(500):
        made.annotate(99, 1)
    made.annotate(1, 99)
    made.write(folder / "annotations" / "instances_train2017.json")
    ConvertedFiles(tmp_path / "work").dataset.mkdir(parents=True)
    with pytest.raises(DatasetError) as refused:
        convert_coco(str(folder), "mine", None, None, "detect", str(tmp_path / "work"))
    assert "Problems in COCO annotations (501); correct each" in str(refused.value)
    assert 10 < str(refused.value).count("image_id matches no image") < 20
    assert "category_id matches no category" in str(refused.value)
    assert "image_id matches no image in the file; add the image, or remove the annotation (500 times)" in (
        str(refused.value)
    )


def test_a_link_that_leads_outside_the_dataset_is_refused(tmp_path: Path) -> None:
    folder = build_coco(tmp_path / "data")
    draw_image(tmp_path / "outside.png", 1)
    (folder / "train2017" / "train2017-1.png").unlink()
    (folder / "train2017" / "train2017-1.png").symlink_to(tmp_path / "outside.png")
    assert "leads outside the dataset" in refusal(folder, tmp_path / "work")


@pytest.mark.parametrize(("key", "value"), [("name", "cat"), ("id", 11)])
def test_categories_that_differ_between_files_are_refused(key: str, value: Any, tmp_path: Path) -> None:
    folder, made = build_coco(tmp_path / "data"), good()
    made.categories[0][key] = value
    made.annotations[0]["category_id"] = made.categories[0]["id"]
    made.write(folder / "annotations" / "instances_train2017.json")
    assert f"a different {key} in another annotation file" in refusal(folder, tmp_path / "work")


def test_file_names_that_differ_only_in_their_extension_are_refused(tmp_path: Path) -> None:
    folder, made = build_coco(tmp_path / "data"), good()
    draw_image(folder / "train2017" / "train2017-1.jpg", 1)
    made.image(3, "train2017-1.jpg")
    made.write(folder / "annotations" / "instances_train2017.json")
    assert "would share a label file" in refusal(folder, tmp_path / "work")


def test_different_images_of_one_split_with_the_same_name_are_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for file, names in (("a/train.json", ["1.png"]), ("b/all.json", ["1.png", "2.png"])):
        made = Coco()
        made.category(1, "cat")
        for key, name in enumerate(names):
            made.image(key, name)
        made.write(data / file)
    for place in ("a/images/1.png", "b/train/1.png", "b/train/2.png"):
        draw_image(data / place, 1)
    assert "would share a label file" in refusal(data, tmp_path / "work")


def test_a_single_file_whose_images_have_no_split_is_refused_with_a_remedy(tmp_path: Path) -> None:
    made = Coco()
    made.category(1, "cat")
    made.image(1, "images/1.png")
    draw_image(tmp_path / "data" / "images" / "1.png", 1)
    made.write(tmp_path / "data" / "result.json")
    assert "annotation files train.json and val.json" in refusal(tmp_path / "data", tmp_path / "work")


def test_two_images_of_the_same_name_are_ambiguous_if_no_folder_is_more_likely(tmp_path: Path) -> None:
    made = Coco()
    made.category(1, "cat")
    for key in range(300):  # more images than the converter samples to guess the folder
        made.image(key, f"gone-{key}.png")
    made.image(1000, "same.png")
    for folder in ("a", "b"):
        draw_image(tmp_path / "data" / folder / "same.png", 1)
    made.write(tmp_path / "data" / "train.json")
    assert "several images of the dataset have this name" in refusal(tmp_path / "data", tmp_path / "work")


def test_missing_validation_images_are_reported(tmp_path: Path) -> None:
    folder = build_coco(tmp_path / "data")
    (folder / "annotations" / "instances_val2017.json").unlink()
    assert "no image for val in its COCO annotations" in refusal(folder, tmp_path / "work")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", ""),
        (json.dumps({"images": [], "annotations": []}).encode("utf-16"), "not valid UTF-8"),
        (b'{"images" [', ""),
    ],
    ids=["empty", "UTF-16", "damaged"],
)
def test_an_annotation_file_that_cannot_be_read_is_named(content: bytes, why: str, tmp_path: Path) -> None:
    folder = build_coco(tmp_path / "data")
    (folder / "annotations" / "instances_train_more.json").write_bytes(content)
    message = refusal(folder, tmp_path / "work")
    assert "annotations/instances_train_more.json: the file cannot be read: " in message
    assert why in message
    assert "export it again, or remove it" in message


def test_an_unreadable_json_file_without_a_split_in_its_name_is_ignored(tmp_path: Path) -> None:
    folder = build_coco(tmp_path / "data")
    (folder / "annotations" / "names.json").write_text('["cat", "dog"]')
    assert convert_coco(str(folder), "mine", None, None, "detect", str(tmp_path)) is not None


def test_a_json_file_with_images_only_is_counted_among_the_omitted_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = build_coco(tmp_path / "data")
    (folder / "annotations" / "instances_train_more.json").write_text('{"images": []}')
    assert convert_coco(str(folder), "mine", None, None, "detect", str(tmp_path)) is not None
    assert "1 JSON files have images or annotations, but not both, and are skipped" in caplog.text


def test_an_unsupported_task_is_refused_with_the_tasks_that_coco_supports(tmp_path: Path) -> None:
    folder = build_coco(tmp_path / "data")
    assert "task='depth' needs data in a different format" in refusal(folder, tmp_path / "work", "depth")


def test_annotations_without_labelled_keypoints_are_refused_for_pose(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for split in ("train", "val"):
        made = Coco()
        made.category(1, "person")
        made.image(1, f"{split}.png")
        draw_image(folder / split / f"{split}.png", 1)
        made.annotate(1, 1)
        made.write(folder / f"{split}.json")
    assert "no annotation has a labelled keypoint" in refusal(folder, tmp_path / "work", "pose")


def test_too_many_images_are_refused_wherever_the_annotations_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coco_file, "IMAGES", 1)
    message = refusal(build_coco(tmp_path / "data"), tmp_path / "work")
    limit = "it exceeds the limit of 1 images; split it into several files"
    assert f"instances_train2017.json: {limit}" in message


def test_too_many_annotations_across_all_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coco, "COCO_ANNOTATIONS", 40)
    message = refusal(build_coco(tmp_path / "data"), tmp_path / "work")
    limit = "the dataset exceeds the limit of 40 annotations; split it into several datasets"
    assert f"instances_val2017.json: {limit}" in message
    assert "cannot be read" not in message


@pytest.mark.parametrize("hidden", ["annotations", "train2017", "."])
def test_a_folder_that_the_worker_may_not_read_is_an_error_and_not_skipped(hidden: str) -> None:
    with TemporaryDirectory() as reachable:  # pytest's own folders are private
        folder = build_coco(Path(reachable, "data"))
        Path(reachable).chmod(0o755)
        (folder / hidden).chmod(0)
        location = DatasetLocation(folder, "mine", folder, (Path(reachable),))

        def convert() -> None:
            found = find_foreign(location, "detect")
            assert found is not None
            convert_coco(str(found.folder), "mine", None, None, "detect", reachable)

        def look() -> str:
            with pytest.raises(DatasetError) as refused:
                convert()
            return str(refused.value)

        message = as_stranger(look)
        (folder / hidden).chmod(0o700)
    assert message == (
        f"Dataset 'mine' cannot be read: Permission denied: {str(folder / hidden)!r}; "
        "allow the worker to read it"
    )


def test_json_that_is_not_coco_is_ignored_by_the_converter(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name, content in (
        ("a", [1]),
        ("b", {"images": []}),
        ("c", {"annotations": []}),
        ("d", {"shapes": []}),
    ):
        (tmp_path / "data" / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "data" / "e.json").write_bytes(b"\xff\xfe\x00")
    assert convert_coco(str(tmp_path / "data"), "mine", None, None, "detect", str(tmp_path)) is None
    with pytest.raises(DatasetError, match=r"a\.json is not a COCO file; it needs images"):
        convert_coco(str(tmp_path / "data"), "mine", None, "a.json", "detect", str(tmp_path))


def test_a_json_file_beside_each_image_is_not_coco_and_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "data").mkdir()
    for number in range(101):
        (tmp_path / "data" / f"{number}.json").write_text("{}")
    assert convert_coco(str(tmp_path / "data"), "mine", None, None, "detect", str(tmp_path)) is None
    assert "101 JSON files, more than 100, so none of them is read as COCO annotations" in caplog.text
