"""A data YAML decides which objects beside it belong to its dataset; no other object is fetched."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from include.datasets.caching.content import compute_stored_fingerprint
from include.datasets.check import inspect_dataset
from include.datasets.errors import DatasetError
from include.datasets.layouts.named_folders import list_folders, name_folders
from include.datasets.sources import S3Tree
from tests.support.dataset_fetcher import CountingReader
from tests.support.dataset_steps import describe, images, materialize, upload_files
from tests.support.tiny_datasets import build

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.ultralytics_tasks import Task

KINDS = ("depth", "images", "labels", "masks")


def named(tmp_path: Path, **keys: object) -> dict[str, list[str]]:
    file = tmp_path / "data.yaml"
    file.write_text(yaml.safe_dump(keys))
    return name_folders(str(file), "s3://bucket/data.yaml", "data.yaml")


@pytest.mark.parametrize(
    ("keys", "folders"),
    [
        (
            {"train": "images/train", "val": "images/val"},
            {f"{kind}/{split}" for kind in KINDS for split in ("train", "val")},
        ),
        (
            {"path": "set", "train": "images", "masks_dir": "annotated"},
            {f"{root}{kind}" for root in ("", "set/") for kind in (*KINDS, "annotated")},
        ),
        (
            {"train": "../train/images", "val": ["a", "b/"]},
            {f"train/{kind}" for kind in KINDS} | {"a", "b"},
        ),
        ({"path": "/datasets/mine", "train": "x", "validation": "y", "test": "z"}, {"x", "y", "z"}),
        ({"path": "../other", "train": "./x/../y", "val": "y/one.jpg"}, {"y"}),
        ({"train": ".", "val": "/etc"}, {""}),
        ({"train": "../../etc", "val": ["..", 3, None, ""]}, set()),
        ({"names": ["a"]}, set()),
    ],
)
def test_a_data_yaml_selects_the_expected_folders(
    keys: dict[str, object], folders: set[str], tmp_path: Path
) -> None:
    assert set(named(tmp_path, **keys)["folders"]) == folders


def test_a_list_names_the_folders_of_its_images_and_of_their_labels(tmp_path: Path) -> None:
    file = tmp_path / "train.txt"
    file.write_text("./images/0.png\n\nset/images/a/1.png\n/etc/passwd\n../x/2.png\nrooted/images/3.png\n")
    name = "lists/train.txt"
    folders = set(list_folders(str(file), f"s3://bucket/{name}", name, ["", "root"], ["annotated"]))
    assert folders == {f"lists/{kind}" for kind in (*KINDS, "annotated")} | {
        f"{root}{name}"
        for root in ("", "root/")
        for kind in (*KINDS, "annotated")
        for name in (f"set/{kind}/a", f"rooted/{kind}")
    } | {"x"}


def test_a_list_with_very_many_folders_names_their_parents_instead(tmp_path: Path) -> None:
    file = tmp_path / "train.txt"
    file.write_text("".join(f"./all/{number % 3}/{number}/0.png\n" for number in range(3000)))
    found = list_folders(str(file), "s3://b/train.txt", "train.txt", [""], [])
    assert found == ["all/0", "all/1", "all/2"]


def test_hostile_data_yamls_are_refused(tmp_path: Path) -> None:
    for keys in ({"train": [f"folder{number}" for number in range(200)]},):
        with pytest.raises(DatasetError, match="names more than 100 folders"):
            named(tmp_path, **keys)
    for text in ("just text", "[1]", "a: [", "\x00"):
        (tmp_path / "data.yaml").write_text(text)
        with pytest.raises(DatasetError, match=r"data\.yaml is not a valid data YAML"):
            name_folders(str(tmp_path / "data.yaml"), "s3://bucket/data.yaml", "data.yaml")


# --- on S3 ---


@pytest.mark.parametrize("task", ["detect", "classify"])
def test_a_dataset_at_the_root_of_a_bucket_is_not_the_whole_bucket(
    task: Task, tmp_path: Path, cache: Path, bucket: str, s3_client: S3Client, reader: CountingReader
) -> None:
    build(task, tmp_path / "data", train=3, val=2)
    originals = sorted(path.read_bytes() for path in (tmp_path / "data").rglob("*.png"))
    upload_files(s3_client, bucket, tmp_path / "data")
    yaml = "data.yaml" if task == "detect" else None
    reference = inspect_dataset(f"s3://{bucket}/{yaml or ''}", task, cache, reader).reference
    whole = compute_stored_fingerprint(S3Tree(bucket, ""), reader)
    for key in ("checkpoints/a/last.pt", "datasets/jobs/a.json", "images-of-others/0.png", "labels.txt"):
        s3_client.put_object(Bucket=bucket, Key=key, Body=b"not of the dataset")
    assert compute_stored_fingerprint(S3Tree(bucket, ""), reader) == whole
    assert compute_stored_fingerprint(S3Tree(bucket, "", yaml), reader) == reference.fingerprint
    assert images(materialize(reference, tmp_path / "another machine", reader)) == originals
    assert {path.name for path in tmp_path.glob("another machine/*/content/*")} <= {
        *("data.yaml", "images", "labels"),
        *("train", "val"),
    }


def test_a_data_yaml_below_a_prefix_selects_only_the_folders_and_lists_that_it_names(
    tmp_path: Path, cache: Path, bucket: str, s3_client: S3Client, reader: CountingReader
) -> None:
    build("detect", tmp_path / "data", train=3, val=2)
    (tmp_path / "data" / "train.txt").write_text("".join(f"./images/train/{n}.png\n" for n in range(3)))
    describe(tmp_path / "data", path=None, train="train.txt")
    upload_files(s3_client, bucket, tmp_path / "data", "sets/")
    source = f"s3://{bucket}/sets/data.yaml"
    before = inspect_dataset(source, "detect", cache, reader).reference
    assert (before.train_images, before.val_images) == (3, 2)
    s3_client.put_object(Bucket=bucket, Key="sets/another/images/0.png", Body=b"of another dataset")
    origin = S3Tree(bucket, "sets/", "data.yaml")
    assert compute_stored_fingerprint(origin, reader) == before.fingerprint
    s3_client.put_object(Bucket=bucket, Key="sets/labels/train/0.txt", Body=b"0 0.5 0.5 0.1 0.1\n")
    assert compute_stored_fingerprint(origin, reader) != before.fingerprint


def test_masks_for_a_list_of_images_are_fetched_from_the_masks_dir_of_the_data_yaml(
    tmp_path: Path, cache: Path, bucket: str, s3_client: S3Client, reader: CountingReader
) -> None:
    folder = tmp_path / "data"
    build("semantic", folder, train=3, val=2)
    (folder / "masks").rename(folder / "annotated")
    for split in ("train", "val"):
        names = sorted(path.name for path in (folder / "images" / split).iterdir())
        (folder / f"{split}.txt").write_text("".join(f"./images/{split}/{name}\n" for name in names))
    describe(folder, path=None, train="train.txt", val="val.txt", masks_dir="annotated")
    upload_files(s3_client, bucket, folder, "sets/")
    found = inspect_dataset(f"s3://{bucket}/sets/data.yaml", "semantic", cache, reader).reference
    assert found.train_images > 0


def test_a_bucket_root_that_is_not_one_dataset_is_refused_with_a_remedy(
    tmp_path: Path, cache: Path, bucket: str, s3_client: S3Client, reader: CountingReader
) -> None:
    for key in ("one/0.png", "two/0.png"):
        s3_client.put_object(Bucket=bucket, Key=key, Body=b"")
    with pytest.raises(DatasetError, match=r"no data YAML and no train/ at its root; give the prefix"):
        inspect_dataset(f"s3://{bucket}/", "detect", cache, reader)
    build("detect", tmp_path / "data", train=1, val=1)
    describe(tmp_path / "data", path=None, train=".")
    upload_files(s3_client, bucket, tmp_path / "data")
    with pytest.raises(DatasetError, match=r"data\.yaml names the whole bucket as a folder of images"):
        inspect_dataset(f"s3://{bucket}/data.yaml", "detect", cache, reader)
    shutil.copy(tmp_path / "data" / "data.yaml", tmp_path / "data" / "copy.yaml")
    (tmp_path / "data" / "data.yaml").rename(tmp_path / "data" / "other.yaml")
    s3_client.delete_object(Bucket=bucket, Key="data.yaml")
    upload_files(s3_client, bucket, tmp_path / "data")
    with pytest.raises(DatasetError, match="with several YAML files at its root"):
        inspect_dataset(f"s3://{bucket}/", "detect", cache, reader)
