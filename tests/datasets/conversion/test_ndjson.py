"""An .ndjson export becomes the same labels, splits and classes as with Ultralytics' own converter."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ultralytics.data.converter import convert_ndjson_to_yolo
from ultralytics.utils import PLATFORM_URL

from include.datasets.conversion import ndjson
from include.datasets.conversion.files import ConvertedFiles
from include.datasets.conversion.ndjson import convert_ndjson
from include.datasets.conversion.ndjson_file import PLATFORM
from include.datasets.errors import DatasetError
from tests.support.ndjson_exports import LABELS, export, header, png, record, write

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.ultralytics_tasks import Task


def convert(file: Path, work: Path, task: Task = "detect") -> Mapping[str, Any]:
    ConvertedFiles(work).dataset.mkdir(parents=True)
    return convert_ndjson(str(file), "s3://bucket/mine.ndjson", task, str(work))


def labels(work: Path) -> dict[str, str]:
    """Return the label of each image, by the image's name."""
    files = ConvertedFiles(work)
    return {
        Path(asset.name).name: files.prepare_label(asset.name).read_text()
        for asset in files.read_asset_list()
        if asset.name.startswith("images/")
    }


def splits(work: Path) -> dict[str, str]:
    return {
        Path(asset.name).name: asset.name.split("/")[1] for asset in ConvertedFiles(work).read_asset_list()
    }


def convert_plainly(folder: Path, lines: list[dict[str, Any]]) -> Path:
    """Let Ultralytics convert an export whose images are in the same folder; return the data YAML."""
    for line in lines[1:]:
        path = folder / "files" / "images" / line["split"] / line["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(1))
    file = write(folder / "mine.ndjson", [lines[0] | {"path": "files"}, *lines[1:]])
    return Path(asyncio.run(convert_ndjson_to_yolo(file, folder / "theirs")))


@pytest.mark.parametrize("task", LABELS)
@pytest.mark.parametrize("validation", [True, False], ids=["splits", "no val"])
def test_labels_splits_and_classes_equal_those_of_ultralytics(
    task: Task, validation: bool, tmp_path: Path
) -> None:
    lines = export(task, splits="ttttttvvv" if validation else "t" * 25)
    convert(write(tmp_path / "mine.ndjson", lines), tmp_path / "work", task)
    theirs = convert_plainly(tmp_path / "plain", lines)
    found = {}
    for path in theirs.parent.glob("labels/*/*.txt"):
        line = lines[int(path.stem)]  # Ultralytics names each image by its number
        found[line["file"]] = (path.parent.name, path.read_text())
    ours = labels(tmp_path / "work")
    assert {name: (split, ours[name]) for name, split in splits(tmp_path / "work").items()} == found
    data = yaml.safe_load((tmp_path / "work" / "dataset" / "data.yaml").read_text())
    plain = yaml.safe_load(theirs.read_text())
    assert data == {key: plain[key] for key in data}
    assert set(data) >= {"train", "val", "names"} | ({"kpt_shape"} if task == "pose" else set())


def test_classes_without_names_get_numbers_as_names(tmp_path: Path) -> None:
    lines = [header("detect", class_names={}), *export("detect")[1:]]
    convert(write(tmp_path / "a.ndjson", lines), tmp_path / "work")
    data = yaml.safe_load((tmp_path / "work" / "dataset" / "data.yaml").read_text())
    assert data["names"] == {0: "class_0", 1: "class_1", 2: "class_2"}


def test_depth_maps_are_written_beside_their_images(tmp_path: Path) -> None:
    lines = [header("depth", depth_scale=256), *export("depth")[1:]]
    convert(write(tmp_path / "a.ndjson", lines), tmp_path / "work", "depth")
    assets = {asset.name for asset in ConvertedFiles(tmp_path / "work").read_asset_list()}
    assert assets >= {"images/train/photo-1.png", "depth/train/photo-1.png", "depth/test/photo-10.png"}
    data = yaml.safe_load((tmp_path / "work" / "dataset" / "data.yaml").read_text())
    assert (data["names"], data["depth_scale"]) == ({0: "depth"}, 256)


def test_images_to_classify_are_written_to_folders_of_their_classes(tmp_path: Path) -> None:
    lines = [*export("classify"), record("classify", 11, annotations={})]
    convert(write(tmp_path / "a.ndjson", lines), tmp_path / "work", "classify")
    assets = [asset.name for asset in ConvertedFiles(tmp_path / "work").read_asset_list()]
    assert assets[:2] == ["train/dog/photo-1.png", "train/cat/photo-2.png"]
    assert len(assets) == 10


def test_images_of_the_same_name_are_numbered(tmp_path: Path) -> None:
    lines = [
        *export("detect"),
        record("detect", 21, file="photo-1.jpg"),
        record("detect", 22, file="no ending"),
    ]
    convert(write(tmp_path / "a.ndjson", lines), tmp_path / "work")
    names = {asset.name for asset in ConvertedFiles(tmp_path / "work").read_asset_list()}
    assert names >= {"images/train/photo-1.png", "images/train/photo-1-12.jpg", "images/train/no ending.jpg"}


@pytest.mark.parametrize("files", [("a.jpg", "a-4.jpg", "a.jpg"), ("a.jpg", "a-4.png", "a.webp")])
def test_a_numbered_name_that_another_image_already_has_gets_a_second_number(
    files: tuple[str, ...], tmp_path: Path
) -> None:
    lines = [
        header("detect"),
        *(record("detect", number, file=file) for number, file in enumerate(files, start=1)),
        record("detect", 4, "val"),
    ]
    convert(write(tmp_path / "a.ndjson", lines), tmp_path / "work")
    names = {Path(asset.name).stem for asset in ConvertedFiles(tmp_path / "work").read_asset_list()}
    assert names == {"a", "a-4", "a-4-4", "photo-4"}


HASHED = "0123456789abcdef0123456789abcdef.png"


@pytest.mark.parametrize(
    ("file", "first", "second", "platform", "same"),
    [
        (HASHED, "X-Amz-Date=1&X-Amz-Signature=a", "X-Amz-Date=2&X-Amz-Signature=b", True, True),
        (HASHED, "X-Goog-Signature=a&generation=1", "X-Goog-Signature=b&generation=1", True, True),
        (HASHED, "Expires=1&Signature=a&Key-Pair-Id=k", "", True, True),
        (HASHED, "sv=1&se=1&sr=b&sp=r&sig=a", "sv=1&se=2&sr=b&sp=r&sig=b#top", True, True),
        (HASHED, "versionId=1", "versionId=2", True, False),
        (HASHED, "X-Goog-Signature=a&generation=1", "X-Goog-Signature=a&generation=2", True, False),
        (HASHED, "signature=a", "signature=b", False, False),
        ("photo.png", "signature=a", "signature=b", True, False),
    ],
)
def test_platform_images_named_by_hash_are_the_same_content_if_only_url_signatures_differ(
    file: str, first: str, second: str, platform: bool, same: bool, tmp_path: Path
) -> None:
    keys = set()
    for number, query in enumerate((first, second)):
        begin = header("depth", **({"url": f"{PLATFORM}me/datasets/mine"} if platform else {}))
        lines = [begin, record("depth", 1), record("depth", 2, "val")]
        lines[1]["url"] = lines[2]["depth"]["url"] = f"https://images.example.com/{file}?{query}"
        lines[1]["depth"]["url"] = lines[2]["url"] = "https://images.example.com/always.png"
        path = write(tmp_path / f"{number}.ndjson", lines)
        keys.add(convert(path, tmp_path / str(number), "depth")["key"])
    assert (len(keys) == 1) is same


def test_an_export_that_is_replaced_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "mine.ndjson", export("detect"))
    survey = ndjson._Export.survey

    def replace_after_survey(self: ndjson._Export) -> None:
        survey(self)
        write(tmp_path / "new.ndjson", export("detect")).replace(path)

    monkeypatch.setattr(ndjson._Export, "survey", replace_after_survey)
    with pytest.raises(DatasetError, match="was replaced while it was being converted; try again"):
        convert(path, tmp_path / "work")


def test_exports_of_platform_are_recognised_as_ultralytics_recognises_them() -> None:
    assert f"{PLATFORM_URL}/" == PLATFORM


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a name that leads out": ({"file": "../../outside.png"}, "leads outside through '..'"),
    "an absolute name": ({"file": "/etc/outside.png"}, "absolute path"),
    "a hidden file": ({"file": ".outside.png"}, "hidden file"),
    "a hidden file in a folder": ({"file": "a/.outside.png"}, "hidden file"),
    "a folder of macOS": ({"file": "__MACOSX/outside.png"}, "hidden file"),
    "no name": ({"file": None}, "file is missing"),
    "an endless name": ({"file": "a" * 250}, "shorten it"),
    "an unknown split": ({"split": "dev"}, "split must be one of train, val, test"),
    "no URL": ({"url": None}, "url is missing; export"),
    "a URL without encryption": ({"url": "http://images.example.com/a.png"}, "not an https:// address"),
    "a file URL": ({"url": "file:///etc/passwd"}, "not an https:// address"),
    "a password in the URL": ({"url": "https://me:secret1@images.example.com/a.png"}, "a user or a password"),
    "a backslash in the URL": (
        {"url": "https://images.example.com\\@evil.example.com/a"},
        "not allowed in URLs; percent-encode",
    ),
    "a line break in the URL": (
        {"url": "https://images.example.com/a\nb"},
        "not allowed in URLs; percent-encode",
    ),
    "an endless URL": (
        {"url": "https://images.example.com/" + "a" * 20_000},
        "a URL exceeds the limit of 16,384 characters",
    ),
    "annotations that are a list": ({"annotations": [1]}, "annotations must be an object"),
    "labels that are a text": ({"annotations": {"boxes": "0 1"}}, "a list of labels"),
    "a label that is a text": ({"annotations": {"boxes": ["0 1"]}}, "a label must be a list of numbers"),
    "a label with a text": ({"annotations": {"boxes": [[0, "1\n0 2"]]}}, "a label must be a list of numbers"),
    "a label with true": ({"annotations": {"boxes": [[True, 1]]}}, "a label must be a list of numbers"),
    "a label with NaN": ({"annotations": {"boxes": [[0, float("nan")]]}}, "a number that is not finite"),
    "a class of a half": ({"annotations": {"boxes": [[0.5, 1]]}}, "a class id must be"),
    "a negative class": ({"annotations": {"boxes": [[-1, 1]]}}, "a class id must be"),
    "a huge class": ({"annotations": {"boxes": [[10**300, 1]]}}, "a class id must be"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_every_mistake_in_an_image_has_an_error_message_with_its_line(case: str, tmp_path: Path) -> None:
    change, sentence = REFUSED[case]
    lines = [*export("detect"), record("detect", 5) | change]
    with pytest.raises(DatasetError, match=re.escape("mine.ndjson:12: ") + f".*{sentence}") as refused:
        convert(write(tmp_path / "mine.ndjson", lines), tmp_path / "work")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([], "the file is empty"),
        (["[]"], "line 1 is not a JSON object"),
        (["{"], "line 1 is not valid JSON"),
        (['{"a": ' + "[" * 50_000], "line 1 is not valid JSON"),
        (['{"a": ' + "1" * 5000 + "}"], "line 1 is not valid JSON"),
        ([b"\xff\xfe"], "line 1 is not valid UTF-8"),
        ([b"{}\n{" + b" " * (17 * 1024**2)], "line 2 exceeds the limit of 16,777,216 bytes"),
        ([record("detect", 1)], "the first line is an image, but it must describe the dataset"),
        ([header("detect", path="/etc")], "path refers to local files, which are not read"),
        ([header("detect", class_names=["a"])], "class_names: .* must map class ids to names"),
        ([header("detect", class_names={"-1": "a"})], "class_names: '-1' must be a class id"),
        ([header("detect", class_names={"9" * 4400: "a"})], "must be a class id"),
        ([header("detect", class_names={"0": ""})], "class 0 has no usable name"),
        ([header("depth", depth_scale=0)], "depth_scale must be a positive number, not 0"),
        ([header("classify"), *export("classify")[1:]], "it is for task='classify', not for task='detect'"),
        (export("detect", splits="vvv"), "it has no images for train"),
        (export("detect", splits="t"), "it has no images for val"),
        ([header("detect", class_names={}), *export("detect", splits="tv")[1:]], None),
    ],
)
def test_every_mistake_in_a_file_has_its_own_error_message(
    lines: list[Any], sentence: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "mine.ndjson"
    texts = [line if isinstance(line, str | bytes) else json.dumps(line) for line in lines]
    file.write_bytes(b"\n".join(text if isinstance(text, bytes) else text.encode() for text in texts))
    if sentence is None:
        convert(file, tmp_path / "work")
        return
    with pytest.raises(DatasetError, match=sentence):
        convert(file, tmp_path / "work")


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "a\\b", "/abs", "x" * 256])
def test_a_class_name_that_cannot_be_a_folder_name_is_refused(name: str, tmp_path: Path) -> None:
    lines = [header("classify", class_names={"0": name, "2": "dog"}), *export("classify")[1:]]
    with pytest.raises(DatasetError, match=r"a class has a name that no folder can have|no usable name"):
        convert(write(tmp_path / "a.ndjson", lines), tmp_path / "work", "classify")


@pytest.mark.parametrize(
    "names",
    [{"0": "cat", "2": "cat"}, {"0": "cat", "2": "cat/"}, {"0": "./cat", "2": "cat"}, {"0": "2"}],
)
def test_two_classes_that_would_share_a_folder_are_refused(names: dict[str, str], tmp_path: Path) -> None:
    lines = [header("classify", class_names=names), *export("classify")[1:]]
    with pytest.raises(DatasetError, match=r"mine\.ndjson:3: class_names: another class has the same name"):
        convert(write(tmp_path / "a.ndjson", lines), tmp_path / "work", "classify")


def test_two_classes_of_the_same_name_stay_separate_in_label_files(tmp_path: Path) -> None:
    names = {"0": "cat", "2": "cat"}
    lines = [header("detect", class_names=names), *export("detect")[1:]]
    convert(write(tmp_path / "a.ndjson", lines), tmp_path / "boxes")


def test_keypoints_need_kpt_shape_if_it_cannot_be_inferred(tmp_path: Path) -> None:
    lines = export("pose", splits="ttv")
    lines[1]["annotations"] = {"pose": [[0, 0.5, 0.5, 0.1, 0.1, 1, 2, 3, 4, 5]]}
    with pytest.raises(DatasetError, match="kpt_shape is missing"):
        convert(write(tmp_path / "a.ndjson", lines), tmp_path / "work", "pose")


def test_the_files_of_each_host_are_counted(tmp_path: Path) -> None:
    file = write(tmp_path / "a.ndjson", export("detect", "https://Images.example.com:8443"))
    assert convert(file, tmp_path / "work")["hosts"] == {"images.example.com:8443": 10}
