"""Valid local datasets of every task are described; bad sources and data YAMLs are refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from include.datasets.errors import DatasetError
from include.datasets.layouts.layout import read_layout
from include.datasets.layouts.samples import DatasetLocation
from tests.support.dataset_steps import check_dataset, check_here, describe, materialize, refusal
from tests.support.strangers import as_stranger
from tests.support.tiny_datasets import TASKS, build

if TYPE_CHECKING:
    from include.ultralytics_tasks import Task


@pytest.mark.parametrize("task", TASKS)
def test_a_valid_dataset_of_every_task_is_described(task: Task, folder: Path, cache: Path) -> None:
    reference = check_dataset(str(build(task, folder)), task, cache, None)
    assert (reference.train_images, reference.val_images) == (8, 4)
    assert sorted(reference.classes.values()) == (["depth"] if task == "depth" else ["arrow", "box"])
    assert reference.size > 0


@pytest.mark.parametrize("task", TASKS)
def test_a_folder_may_be_given_in_place_of_its_data_yaml(task: Task, folder: Path, cache: Path) -> None:
    by_file = check_here(build(task, folder), task, cache)
    assert check_here(folder, task, cache).fingerprint == by_file.fingerprint


def test_the_check_runs_without_torch_ultralytics_and_scikit_learn(folder: Path, cache: Path) -> None:
    blocked = {"torch", "ultralytics", "sklearn", "boto3", "airflow"}
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked!r}))\n"
        "from pathlib import Path\n"
        "from tests.support.dataset_steps import check_dataset\n"
        f"check_dataset({str(build('detect', folder))!r}, 'detect', Path({str(cache)!r}), None)\n"
        # Examine in this process too, because check_dataset examines the dataset in another one.
        "from include.datasets.examination import examine\n"
        "from include.datasets.layouts.samples import DatasetLocation\n"
        f"folder = Path({str(folder)!r})\n"
        "examine(DatasetLocation(folder, '', folder).as_json(), 'detect', None, {})\n"
        f"check_dataset('digits', 'detect', Path({str(cache)!r}), None)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("coco8.yaml", "not an absolute path"),
        ("coco8", "Ultralytics' own datasets"),
        ("https://example.com/data.zip", "datasets are not fetched from such addresses"),
        ("ul://someone/datasets/some", "datasets are not fetched from such addresses"),
        ("file:/etc/passwd", "datasets are not fetched from such addresses"),
        ("/nowhere/at/all", "is outside DATASET_ROOTS"),
        ("/etc/hostname", "is outside DATASET_ROOTS"),
        ("s3:///key", "has no bucket name"),
        ("s3://bucket/data.tar.gz", "only .zip"),
        ("s3://bucket/data.zip", "training_s3"),
    ],
)
def test_an_impossible_source_is_refused_with_a_reason(source: str, reason: str, cache: Path) -> None:
    message = refusal(source, "detect", cache)
    assert source in message
    assert reason in message


def test_an_unusable_path_below_the_roots_is_refused_with_its_problem(folder: Path, cache: Path) -> None:
    assert "does not exist on machine" in refusal(folder, "detect", cache)
    folder.mkdir()
    (folder / "notes.txt").write_text("no data YAML")
    assert "must be a folder, a data YAML" in refusal(folder / "notes.txt", "detect", cache)


@pytest.mark.parametrize("name", ["data.yaml", "train.txt"])
def test_a_file_that_the_worker_may_not_read_is_an_error_with_a_remedy(name: str) -> None:
    with TemporaryDirectory() as reachable:  # pytest's own folders are private
        folder = build("detect", Path(reachable, "data")).parent
        describe(folder, train="train.txt")
        (folder / "train.txt").write_text("./images/train/0.png\n")
        Path(reachable).chmod(0o755)
        (folder / name).chmod(0)

        def look() -> str:
            with pytest.raises(DatasetError) as refused:
                read_layout(DatasetLocation(folder, "mine", folder), "detect")
            return str(refused.value)

        assert as_stranger(look) == (
            f"Dataset 'mine' cannot be read: Permission denied: {str(folder / name)!r}; "
            "allow the worker to read it"
        )


def test_digits_are_refused_for_other_tasks(cache: Path) -> None:
    assert "task='detect' only" in refusal("digits", "segment", cache)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"names": None}, "names is missing"),
        ({"names": []}, "at least one class"),
        ({"names": {0: "a", 2: "b"}}, "0 to 1 without gaps"),
        ({"names": {"zero": "a"}}, "class ids 0, 1, 2"),
        ({"names": ["a", None]}, "class 1 has no usable name"),
        ({"nc": 3}, "nc: 3 does not match the 2 names"),
        ({"nc": "many"}, "nc: 'many' must be the number"),
        ({"nc": "1.5"}, "nc: '1.5' must be the number"),
        ({"nc": "3"}, "nc: 3 does not match the 2 names"),
        ({"train": None}, "train: None must be a folder"),
        ({"val": ["images/val", 7]}, "val: ['images/val', 7] must be a folder"),
        ({"val": "images/test"}, "val: 'images/test' does not exist"),
        ({"val": "labels/val"}, "val is empty"),
        ({"path": 5}, "path: 5 must be a path"),
        ({"channels": 0}, "channels: 0"),
    ],
)
def test_a_bad_data_yaml_is_refused(
    changes: dict[str, object], reason: str, folder: Path, cache: Path
) -> None:
    build("detect", folder)
    message = refusal(describe(folder, **changes), "detect", cache)
    assert reason in message


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kpt_shape": None}, "kpt_shape is missing"),
        ({"kpt_shape": [4, 5]}, "[number of keypoints, 2 or 3]"),
        ({"flip_idx": [0, 1, 2]}, "flip_idx: [0, 1, 2] must name each of the 4"),
        ({"flip_idx": [0, 1, 2, 2]}, "flip_idx: [0, 1, 2, 2]"),
    ],
)
def test_a_bad_pose_description_is_refused(
    changes: dict[str, object], reason: str, folder: Path, cache: Path
) -> None:
    build("pose", folder)
    assert reason in refusal(describe(folder, **changes), "pose", cache)


@pytest.mark.parametrize("text", [b"names: [a", b"\xff\xfe\x00", b"- a\n- b\n", b""])
def test_a_file_that_is_not_a_data_yaml_is_refused(text: bytes, folder: Path, cache: Path) -> None:
    build("detect", folder)
    (folder / "data.yaml").write_bytes(text)
    assert "data.yaml" in refusal(folder, "detect", cache)


def test_a_folder_without_or_with_several_yaml_files_is_refused(folder: Path, cache: Path) -> None:
    build("detect", folder).rename(folder / "a.yaml")
    check_here(folder, "detect", cache)
    shutil.copy(folder / "a.yaml", folder / "b.yaml")
    assert "several YAML files (a.yaml, b.yaml)" in refusal(folder, "detect", cache)
    (folder / "a.yaml").unlink()
    (folder / "b.yaml").unlink()
    assert "contains no data YAML" in refusal(folder, "detect", cache)


def test_the_path_of_another_machine_is_ignored(folder: Path, cache: Path) -> None:
    build("detect", folder)
    data = describe(folder, path="/content/datasets/mine")
    assert check_here(data, "detect", cache).train_images == 8


def test_splits_may_be_lists_of_images_and_lists_of_folders(folder: Path, cache: Path) -> None:
    build("detect", folder)
    images = sorted((folder / "images" / "train").iterdir())
    listed = [f"./images/train/{image.name}" for image in images[:3]] + [str(images[3]), str(images[3])]
    (folder / "train.txt").write_text("\n".join(listed))
    data = describe(folder, train="train.txt", val=["images/val", "images/train"])
    reference = check_here(data, "detect", cache)
    assert (reference.train_images, reference.val_images) == (5, 12), "an image listed twice counts twice"
    view = materialize(reference, cache, None).data.parent
    assert len(list((view / "images" / "train").rglob("*.png"))) == 5
    assert len(list((view / "labels" / "train").rglob("*.txt"))) == 5


def test_a_list_with_missing_images_is_refused_with_their_lines(folder: Path, cache: Path) -> None:
    build("detect", folder)
    (folder / "train.txt").write_text("images/train/0.png\n\nimages/train/nothing.png\nnotes.doc\n")
    message = refusal(describe(folder, train="train.txt"), "detect", cache)
    assert "train.txt:3: 'images/train/nothing.png' does not exist" in message
    assert "train.txt:4: the line is not the name of an image" in message
    assert "notes" not in message


def test_an_export_with_images_and_labels_in_each_split_is_understood(folder: Path, cache: Path) -> None:
    build("detect", folder)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / split).mkdir(exist_ok=True)
            (folder / kind / split).rename(folder / split / kind)
    for train in ("../train/images", "train"):  # the path that Roboflow writes, and its parent folder
        data = describe(folder, path=None, train=train, val="val/images")
        local = materialize(check_here(data, "detect", cache), cache, None)
        labels = list(local.data.parent.rglob("train/**/*.txt"))
        assert len(labels) == 8
