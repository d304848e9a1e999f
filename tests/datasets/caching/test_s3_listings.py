"""Other machines fetch exactly the objects that were checked below an S3 prefix, whatever is added later."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from include.datasets import check
from include.datasets.caching.listing import S3Listings
from include.datasets.errors import DatasetChanged
from include.datasets.s3 import S3ObjectReader
from include.s3.bucket import Bucket
from tests.support.dataset_steps import images, materialize, roots_beside, upload_files
from tests.support.tiny_datasets import build

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.datasets.caching.fetch import LocalDataset
    from include.datasets.reference import DatasetReference

NEW = "set/images/train/new.png"


class Prefix:
    """A dataset below a prefix, and the machines that check it and train on it."""

    def __init__(self, client: S3Client, bucket: str, folder: Path) -> None:
        self.client, self.bucket = client, bucket
        self._folder = folder
        self._reader, self._listings = S3ObjectReader(client), S3Listings(Bucket(client, bucket))
        build("detect", folder / "data", train=3, val=2)
        upload_files(client, bucket, folder / "data", "set/")

    def check(self) -> DatasetReference:
        cache = self._folder / "checking"
        source = f"s3://{self.bucket}/set/"
        return check.inspect_dataset(
            source, "detect", cache, self._reader, roots_beside(cache), self._listings
        ).reference

    def materialize(self, reference: DatasetReference, machine: str = "training") -> LocalDataset:
        cache = self._folder / machine
        return materialize(reference, cache, self._reader, self._listings)

    def originals(self) -> list[bytes]:
        return sorted(path.read_bytes() for path in (self._folder / "data").rglob("*.png"))

    def put(self, key: str, content: bytes = b"new") -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=content)

    def listing(self) -> str:
        (item,) = self.client.list_objects_v2(Bucket=self.bucket, Prefix="datasets/")["Contents"]
        return item["Key"]


@pytest.fixture
def prefix(s3_client: S3Client, bucket: str, tmp_path: Path) -> Prefix:
    return Prefix(s3_client, bucket, tmp_path)


def test_uploads_after_the_check_do_not_reach_the_machine_that_trains(prefix: Prefix) -> None:
    reference = prefix.check()
    prefix.put(NEW)
    prefix.put("set/labels/train/0.cache")
    assert images(prefix.materialize(reference)) == prefix.originals()
    prefix.client.delete_object(Bucket=prefix.bucket, Key=NEW)
    assert prefix.check() == reference


@pytest.mark.parametrize("fate", ["replaced", "deleted"])
def test_a_replaced_or_deleted_object_is_named_unless_the_machine_has_a_copy(
    fate: str, prefix: Prefix
) -> None:
    reference = prefix.check()
    prefix.materialize(reference, "quick")
    key = "set/labels/train/0.txt"
    if fate == "replaced":
        prefix.put(key, b"1 0.4 0.4 0.2 0.2\n")
    else:
        prefix.client.delete_object(Bucket=prefix.bucket, Key=key)
    with pytest.raises(DatasetChanged, match=rf"s3://{prefix.bucket}/{key} was {fate} after"):
        prefix.materialize(reference)
    assert images(prefix.materialize(reference, "quick")) == prefix.originals()


@pytest.mark.parametrize("stored", ["nothing", "no gzip", "other objects", "half of it"])
def test_without_an_intact_listing_any_change_below_the_prefix_is_refused(
    stored: str, prefix: Prefix
) -> None:
    reference = prefix.check()
    key = prefix.listing()
    whole = prefix.client.get_object(Bucket=prefix.bucket, Key=key)["Body"].read()
    prefix.client.delete_object(Bucket=prefix.bucket, Key=key)
    if stored != "nothing":
        damaged = {
            "no gzip": b"null\n",
            "other objects": gzip.compress(b'null\n["../../evil", 1, "e"]\n'),
            "half of it": whole[: len(whole) // 2],
        }
        prefix.put(key, damaged[stored])
    prefix.put(NEW)
    with pytest.raises(DatasetChanged, match="has changed since check_dataset checked it"):
        prefix.materialize(reference)
    prefix.client.delete_object(Bucket=prefix.bucket, Key=NEW)
    assert images(prefix.materialize(reference)) == prefix.originals()
    assert prefix.client.get_object(Bucket=prefix.bucket, Key=key)["Body"].read() == whole, "stored again"


def test_a_data_yaml_given_as_the_source_is_part_of_the_listing(prefix: Prefix, tmp_path: Path) -> None:
    source = f"s3://{prefix.bucket}/set/data.yaml"
    cache, other = tmp_path / "checking", tmp_path / "training"
    reader, listings = S3ObjectReader(prefix.client), S3Listings(Bucket(prefix.client, prefix.bucket))
    reference = check.inspect_dataset(
        source, "detect", cache, reader, roots_beside(cache), listings
    ).reference
    prefix.put(NEW)
    local = materialize(reference, other, reader, listings)
    assert images(local) == prefix.originals()
