"""Datasets in S3 are fetched once, cached by content, and read only in the version that was checked."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from include.datasets.caching.download import Downloader
from include.datasets.check import inspect_dataset
from include.datasets.errors import DatasetChanged, DatasetChanging, DatasetError
from include.datasets.progress import ProgressLog
from include.datasets.s3 import S3ObjectReader
from include.datasets.storage import StoredObject
from include.errors import TransientError
from tests.support.dataset_fetcher import CountingReader
from tests.support.dataset_steps import describe, images, materialize, upload_files, upload_zip
from tests.support.tiny_datasets import TASKS, build

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.ultralytics_tasks import Task


@pytest.mark.parametrize(
    ("form", "task"),
    [
        *(("prefix", task) for task in TASKS),
        *(("zip", task) for task in ("detect", "classify", "depth")),
        # These are long, because the labels of an unpacked zip are read like those of a prefix.
        *(
            pytest.param("zip", task, marks=pytest.mark.long)
            for task in ("segment", "semantic", "pose", "obb")
        ),
    ],
)
def test_every_task_is_fetched_from_a_zip_and_from_a_prefix(
    form: str, task: Task, folder: Path, cache: Path, bucket: str, s3_client: S3Client, reader: CountingReader
) -> None:
    build(task, folder, train=3, val=2)
    originals = sorted(path.read_bytes() for path in folder.rglob("*.png"))
    if form == "zip":
        source = upload_zip(s3_client, bucket, folder)
    else:
        upload_files(s3_client, bucket, folder, "sets/mine/")
        source = f"s3://{bucket}/sets/mine/"
    shutil.rmtree(folder)
    reference = inspect_dataset(source, task, cache, reader).reference
    assert (reference.train_images, reference.val_images) == (3, 2)
    assert images(materialize(reference, cache, reader)) == originals


def test_a_data_yaml_selects_one_of_several_datasets_below_a_prefix(
    folder: Path, cache: Path, bucket: str, s3_client: S3Client, reader: CountingReader
) -> None:
    data = build("detect", folder, train=3, val=2)
    shutil.copy(data, folder / "first.yaml")
    describe(folder, path=None, val="images/train").rename(folder / "second.yaml")
    upload_files(s3_client, bucket, folder, "sets/")
    first, second = (
        inspect_dataset(f"s3://{bucket}/sets/{name}.yaml", "detect", cache, reader).reference
        for name in ("first", "second")
    )
    assert (first.val_images, second.val_images) == (2, 3)
    assert first.fingerprint != second.fingerprint


def test_content_in_the_cache_is_not_fetched_again(
    folder: Path, cache: Path, bucket: str, s3_client: S3Client, reader: CountingReader
) -> None:
    build("detect", folder, train=3, val=2)
    upload_files(s3_client, bucket, folder)
    reference = inspect_dataset(f"s3://{bucket}", "detect", cache, reader).reference
    fetched = reader.reads
    again = inspect_dataset(f"s3://{bucket}/", "detect", cache, reader).reference
    assert again.fingerprint == reference.fingerprint
    assert fetched == 11 + 1, "the data YAML, which names the folders to list"
    assert reader.reads == fetched + 1


@pytest.mark.parametrize("form", ["zip", "prefix"])
def test_a_machine_with_cached_content_needs_no_s3(
    form: str, folder: Path, cache: Path, bucket: str, s3_client: S3Client, reader: CountingReader
) -> None:
    build("detect", folder, train=3, val=2)
    if form == "zip":
        source = upload_zip(s3_client, bucket, folder)
    else:
        upload_files(s3_client, bucket, folder)
        source = f"s3://{bucket}/"
    reference = inspect_dataset(source, "detect", cache, reader).reference
    for item in s3_client.list_objects_v2(Bucket=bucket)["Contents"]:
        s3_client.delete_object(Bucket=bucket, Key=item["Key"])
    assert len(images(materialize(reference, cache, reader))) == 5
    with pytest.raises(DatasetError, match=f"s3://{bucket}/"):
        materialize(reference, cache.with_name("another machine"), reader)


def test_the_same_zip_under_another_key_is_the_same_content(
    folder: Path, cache: Path, bucket: str, s3_client: S3Client, reader: CountingReader
) -> None:
    build("detect", folder, train=3, val=2)
    sources = [upload_zip(s3_client, bucket, folder)]
    s3_client.copy_object(Bucket=bucket, Key="copy.zip", CopySource=f"{bucket}/data.zip")
    sources.append(f"s3://{bucket}/copy.zip")
    first, second = (
        inspect_dataset(source, "detect", cache, reader).reference.fingerprint for source in sources
    )
    assert (first, reader.reads) == (second, 1)


@pytest.mark.parametrize("form", ["zip", "prefix"])
def test_content_that_was_replaced_after_the_check_is_not_trained_on(
    form: str, folder: Path, cache: Path, bucket: str, s3_client: S3Client, reader: CountingReader
) -> None:
    build("detect", folder, train=3, val=2)
    upload_files(s3_client, bucket, folder, "set/")
    source = upload_zip(s3_client, bucket, folder) if form == "zip" else f"s3://{bucket}/set"
    reference = inspect_dataset(source, "detect", cache, reader).reference
    (folder / "labels" / "train" / "0.txt").write_text("1 0.4 0.4 0.2 0.2\n")
    upload_files(s3_client, bucket, folder, "set/")
    upload_zip(s3_client, bucket, folder)
    with pytest.raises(DatasetChanged, match="has changed since check_dataset checked it"):
        materialize(reference, cache.with_name("another machine"), reader)
    materialize(reference, cache, reader)


@pytest.mark.parametrize("fate", ["replaced", "deleted"])
def test_data_that_change_while_they_are_fetched_are_checked_again_by_a_retry(
    fate: str, folder: Path, cache: Path, bucket: str, s3_client: S3Client
) -> None:
    class Racing(S3ObjectReader):
        def list(self, bucket: str, prefix: str) -> Iterator[StoredObject]:
            found = list(super().list(bucket, prefix))
            label = "set/labels/train/0.txt"
            s3_client.delete_object(Bucket=bucket, Key=label)
            if fate == "replaced":
                s3_client.put_object(Bucket=bucket, Key=label, Body=b"1 0.4 0.4 0.2 0.2\n")
            return iter(found)

    build("detect", folder, train=3, val=2)
    upload_files(s3_client, bucket, folder, "set/")
    change = rf"labels/train/0\.txt was {fate} after the dataset was listed, probably by an upload"
    with pytest.raises(DatasetChanging, match=change) as failed:
        inspect_dataset(f"s3://{bucket}/set/", "detect", cache, Racing(s3_client))
    assert isinstance(failed.value, TransientError)
    assert not list(cache.rglob("content*"))
    checked = inspect_dataset(f"s3://{bucket}/set/", "detect", cache, S3ObjectReader(s3_client))
    assert checked.reference.train_images == 3


def test_caches_and_hidden_objects_are_neither_fetched_nor_part_of_the_content(
    folder: Path, cache: Path, bucket: str, s3_client: S3Client, reader: CountingReader
) -> None:
    build("detect", folder, train=3, val=2)
    upload_files(s3_client, bucket, folder)
    before = inspect_dataset(f"s3://{bucket}/", "detect", cache, reader).reference
    for key in ("labels/train.cache", ".DS_Store", "images/train/0.npy", "images/"):
        s3_client.put_object(Bucket=bucket, Key=key, Body=b"")
    assert inspect_dataset(f"s3://{bucket}/", "detect", cache, reader).reference == before


def test_a_data_yaml_in_s3_may_not_point_outside_its_dataset(
    folder: Path, cache: Path, bucket: str, s3_client: S3Client, reader: CountingReader, tmp_path: Path
) -> None:
    build("detect", folder, train=3, val=2)
    build("detect", tmp_path / "private", train=1, val=1)
    for changes in (
        {"train": str(tmp_path / "private" / "images" / "train")},
        {"train": "../../../private/images/train"},
    ):
        describe(folder, path=None, **changes)
        upload_files(s3_client, bucket, folder)
        with pytest.raises(DatasetError, match="leads outside the dataset"):
            inspect_dataset(f"s3://{bucket}/", "detect", cache, reader)
    (folder / "train.txt").write_text(f"./images/train/0.png\n{tmp_path}/private/images/train/0.png\n")
    describe(folder, train="train.txt")
    upload_files(s3_client, bucket, folder)
    with pytest.raises(DatasetError, match=r"train\.txt:2: .*leads outside the dataset"):
        inspect_dataset(f"s3://{bucket}/", "detect", cache, reader)
    describe(folder, train="images/train", path=str(tmp_path / "private"))
    upload_files(s3_client, bucket, folder)
    assert inspect_dataset(f"s3://{bucket}/", "detect", cache, reader).reference.train_images == 3


def test_a_malicious_zip_writes_nothing_outside_the_cache(
    cache: Path, bucket: str, s3_client: S3Client, reader: CountingReader, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as opened:
        opened.writestr("data.yaml", "")
        opened.writestr("../../../../evil", "evil")
    s3_client.upload_file(str(tmp_path / "evil.zip"), bucket, "evil.zip")
    with pytest.raises(DatasetError, match=r"s3://.*/evil\.zip contains '\.\./\.\./\.\./\.\./evil'"):
        inspect_dataset(f"s3://{bucket}/evil.zip", "detect", cache, reader)
    assert not list(tmp_path.rglob("evil"))
    assert not list(cache.rglob("content*")), "no partial content is left"


def test_a_key_that_is_not_a_safe_file_name_is_refused(
    bucket: str, s3_client: S3Client, cache: Path, reader: CountingReader
) -> None:
    s3_client.put_object(Bucket=bucket, Key="set/a\nb.png", Body=b"")
    with pytest.raises(DatasetError, match="not an allowed name: it contains a control character"):
        inspect_dataset(f"s3://{bucket}/set/", "detect", cache, reader)


def test_a_large_object_arrives_whole_over_several_connections(
    bucket: str, s3_client: S3Client, reader: CountingReader, tmp_path: Path
) -> None:
    content = Random(0).randbytes(70 * 1024**2 + 1)
    s3_client.put_object(Bucket=bucket, Key="large", Body=content)
    progress = ProgressLog("Fetching", len(content), "bytes")
    Downloader(reader, progress).download([(reader.stat(bucket, "large"), tmp_path / "large")])
    assert (tmp_path / "large").read_bytes() == content
    assert reader.reads == 3
