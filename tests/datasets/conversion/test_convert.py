"""A dataset in another format is converted once; every machine then fetches the result from S3."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from include.datasets import check
from include.datasets.caching.listing import S3Listings
from include.datasets.conversion import images as fetching
from include.datasets.conversion.addresses import AllowedHosts
from include.datasets.conversion.convert import Converter
from include.datasets.conversion.web import FetchLimits, ImagesUnavailable
from include.datasets.errors import DatasetError
from include.datasets.s3 import S3ObjectReader
from include.s3.bucket import Bucket
from include.stack.s3 import S3
from tests.support import dataset_converter
from tests.support.coco_datasets import build_coco
from tests.support.dataset_steps import arguments, materialize, roots_beside, upload_files, upload_zip
from tests.support.image_host import ImageHost
from tests.support.ndjson_exports import export, png, write
from tests.support.waiting import until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.datasets.caching.fetch import LocalDataset
    from include.datasets.reference import DatasetReference
    from include.ultralytics_tasks import Task


@dataclass
class World:
    """A bucket, and the machines that check a dataset and train on it."""

    client: S3Client
    bucket: str
    folder: Path
    hosts: AllowedHosts = field(default_factory=AllowedHosts)

    def check(self, source: str, task: Task = "detect", machine: str = "checking") -> DatasetReference:
        cache, bucket = self.folder / machine, Bucket(self.client, self.bucket)
        return check.inspect_dataset(
            source,
            task,
            cache,
            S3ObjectReader(self.client),
            roots_beside(cache),
            S3Listings(bucket),
            converter=Converter(bucket, self.hosts),
        ).reference

    def train(self, reference: DatasetReference, machine: str = "training") -> LocalDataset:
        listings = S3Listings(Bucket(self.client, self.bucket))
        return materialize(reference, self.folder / machine, S3ObjectReader(self.client), listings)

    def keys(self, prefix: str = "") -> list[str]:
        listed = self.client.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", [])
        return [item["Key"] for item in listed]

    def written(self, *prefixes: str) -> list[datetime]:
        """Return the time at which each object was written."""
        listed = [self.client.list_objects_v2(Bucket=self.bucket, Prefix=prefix) for prefix in prefixes]
        return [item["LastModified"] for page in listed for item in page["Contents"]]

    def delete(self, prefix: str) -> None:
        for key in self.keys(prefix):
            self.client.delete_object(Bucket=self.bucket, Key=key)

    def upload_export(self, task: Task, host: ImageHost, key: str = "sets/mine.ndjson") -> str:
        lines = export(task, host.url)
        for line in lines[1:]:
            host.files[f"/{line['file']}"] = png(len(host.files))
            if task == "depth":
                host.files[f"/depth-{line['file'][6:]}"] = png(len(host.files), depth=True)
        self.client.upload_file(str(write(self.folder / "mine.ndjson", lines)), self.bucket, key)
        return f"s3://{self.bucket}/{key}"


@pytest.fixture
def conversions(s3_client: S3Client, bucket: str, tmp_path: Path) -> World:
    return World(s3_client, bucket, tmp_path)


@pytest.fixture
def host(server: ImageHost, conversions: World, monkeypatch: pytest.MonkeyPatch) -> ImageHost:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.certificate))
    monkeypatch.setattr(fetching, "LIMITS", FetchLimits(tries=2, pause=0.01))
    server.files.clear()
    server.requested.clear()
    server.status.clear()
    server.drip.clear()
    conversions.hosts = AllowedHosts.parse(f"localhost:{server.port},127.0.0.0/8")
    return server


def contents(local: LocalDataset) -> dict[str, bytes]:
    root = local.data if local.data.is_dir() else local.data.parent
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*.*")
        if path.name != "data.yaml"
    }


@pytest.mark.parametrize(("form", "task"), [("zip", "segment"), ("file", "semantic"), ("folder", "obb")])
def test_a_converted_coco_dataset_is_trained_on_after_its_source_is_gone(
    form: str, task: Task, conversions: World
) -> None:
    folder = build_coco(conversions.folder / "data")
    source = str(folder)
    if form == "zip":
        source = upload_zip(conversions.client, conversions.bucket, folder)
    elif form == "file":
        upload_files(conversions.client, conversions.bucket, folder, "sets/mine/")
        source = f"s3://{conversions.bucket}/sets/mine/annotations/instances_train2017.json"
    reference = conversions.check(source, task)
    assert (reference.train_images, reference.val_images, reference.origin) == (4, 4, source)
    assert reference.source == f"s3://{conversions.bucket}/datasets/{reference.fingerprint}/data.yaml"
    assert list(reference.classes.values()) == ["class 1", "class 2", "class 3"]
    original = (folder / "train2017" / "train2017-1.png").read_bytes()
    shutil.rmtree(folder)
    conversions.delete("sets/")
    conversions.delete("data.zip")
    found = contents(conversions.train(reference))
    assert found["images/train/train2017-1.png"] == original
    assert found["labels/train/train2017-1.txt"].count(b"\n") > 5
    assert len(found) == 14


def test_a_finished_conversion_is_reused_even_for_a_zip_of_the_same_files(conversions: World) -> None:
    folder = build_coco(conversions.folder / "data")
    upload_files(conversions.client, conversions.bucket, folder, "sets/mine/")
    source = f"s3://{conversions.bucket}/sets/mine/"
    first = conversions.check(source)
    before = conversions.written(f"datasets/{first.fingerprint}/", "datasets/conversions/")
    assert conversions.check(source, machine="another") == first
    assert conversions.written(f"datasets/{first.fingerprint}/", "datasets/conversions/") == before
    assert first.warnings > 12, "crowds and boxes without a size are warnings"
    assert (
        conversions.check(upload_zip(conversions.client, conversions.bucket, folder)).source == first.source
    )


def test_a_conversion_that_lost_objects_in_s3_is_completed(conversions: World) -> None:
    source = upload_zip(conversions.client, conversions.bucket, build_coco(conversions.folder / "data"))
    first = conversions.check(source)
    prefix = f"datasets/{first.fingerprint}/"
    conversions.delete("datasets/conversions/")
    conversions.delete(f"{prefix}labels/train/")
    conversions.delete(f"{prefix}data.yaml")
    damaged = f"{prefix}images/val/background.png"
    conversions.client.put_object(Bucket=conversions.bucket, Key=damaged, Body=b"other")
    assert conversions.check(source, machine="another") == first
    assert conversions.client.head_object(Bucket=conversions.bucket, Key=damaged)["ContentLength"] > 5
    assert len(contents(conversions.train(first))) == 14


def test_a_dataset_that_was_refused_during_conversion_is_converted_once_it_is_corrected(
    conversions: World,
) -> None:
    folder = conversions.folder / "here" / "data"
    annotations = build_coco(folder) / "annotations" / "instances_val2017.json"
    original = annotations.read_text(encoding="utf-8")
    wrong = json.loads(original)
    wrong["annotations"][0]["category_id"] = True
    annotations.write_text(json.dumps(wrong), encoding="utf-8")
    for _ in range(2):
        with pytest.raises(DatasetError, match="matches no category"):
            conversions.check(str(folder), machine="here/cache")
    annotations.write_text(original, encoding="utf-8")
    assert conversions.check(str(folder), machine="here/cache").train_images > 0


def test_two_workers_convert_the_same_dataset_simultaneously(conversions: World) -> None:
    source = upload_zip(conversions.client, conversions.bucket, build_coco(conversions.folder / "data"))
    barrier = threading.Barrier(3)

    def run(machine: str) -> DatasetReference:
        barrier.wait(60)
        return conversions.check(source, machine=machine)

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(run, ["one", "two", "two"]))
    assert found[0] == found[1] == found[2]
    assert len(contents(conversions.train(found[0]))) == 14


@pytest.mark.parametrize(
    "task",
    [
        *("pose", "classify", "depth"),
        *(pytest.param(task, marks=pytest.mark.long) for task in ("semantic", "obb")),
    ],
)
def test_a_converted_export_is_trained_on_after_its_images_are_gone(
    task: Task, conversions: World, host: ImageHost
) -> None:
    source = conversions.upload_export(task, host)
    reference = conversions.check(source, task)
    assert (reference.train_images, reference.val_images, reference.origin) == (6, 3, source)
    assert reference.source.startswith(f"s3://{conversions.bucket}/datasets/{reference.fingerprint}/")
    assert host.requested.total() == (20 if task == "depth" else 10)
    conversions.delete("sets/")
    host.files.clear()
    local = conversions.train(reference)
    assert sum("photo" in name and name.endswith(".png") for name in contents(local)) == (
        18 if task == "depth" else 9
    )
    assert not list((conversions.folder / "checking").rglob("*.jsonl"))


def test_a_second_check_and_an_export_with_new_signatures_fetch_nothing(
    conversions: World, host: ImageHost
) -> None:
    source = conversions.upload_export("detect", host)
    first = conversions.check(source)
    host.requested.clear()
    assert conversions.check(source, machine="another") == first
    assert not host.requested


def test_an_interrupted_fetch_continues_where_it_stopped(conversions: World, host: ImageHost) -> None:
    source = conversions.upload_export("detect", host)
    host.status["/photo-5.png"] = [500] * 2
    with pytest.raises(ImagesUnavailable, match=r"photo-5\.png responds with HTTP 500, 2 times in a row"):
        conversions.check(source)
    conversions.check(source)
    assert sum(count for path, count in host.requested.items() if "photo-5" not in path) == 9


def test_a_conversion_that_was_killed_does_not_fetch_an_image_twice(
    conversions: World, host: ImageHost, s3: S3
) -> None:
    source = conversions.upload_export("detect", host)
    host.drip.add("/photo-7.png")
    job = {
        "source": source,
        "cache": str(conversions.folder / "checking"),
        "bucket": conversions.bucket,
        "client": arguments(s3),
        "hosts": f"localhost:{host.port}, 127.0.0.0/8",
    }
    with subprocess.Popen([sys.executable, "-m", dataset_converter.__name__, json.dumps(job)]) as process:
        try:
            until(
                lambda: host.requested.total() == 10 and len(fetched(conversions)) == 9,
                seconds=60,
                pause=0.05,
            )
        finally:
            process.kill()
    host.drip.clear()
    assert conversions.check(source).train_images == 6
    again = [path for path, count in host.requested.items() if count > 1]
    assert [path.partition("?")[0] for path in again] == ["/photo-7.png"]
    assert not fetched(conversions)


def fetched(world: World) -> list[Path]:
    """Return the images that an unfinished conversion has fetched."""
    return list(world.folder.glob("checking/*/conversion/fetched/images/*/*.png"))


def test_images_that_are_gone_are_listed_without_their_signatures(
    conversions: World, host: ImageHost
) -> None:
    source = conversions.upload_export("detect", host)
    del host.files["/photo-2.png"]
    lines = [json.loads(line) for line in (conversions.folder / "mine.ndjson").read_text().splitlines()]
    lines.append(lines[1] | {"file": "photo-1.png/inner.png"})
    conversions.client.upload_file(
        str(write(conversions.folder / "mine.ndjson", lines)), conversions.bucket, "sets/mine.ndjson"
    )
    with pytest.raises(DatasetError, match="HTTP 404; signed URLs expire") as refused:
        conversions.check(source)
    assert "a folder of other images has the same name; rename the image" in str(refused.value)
    assert "images/train/photo-2.png: the file cannot be fetched" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_without_an_allowed_host_no_request_is_sent(conversions: World, host: ImageHost) -> None:
    source = conversions.upload_export("detect", host)
    conversions.hosts = AllowedHosts()
    with pytest.raises(
        DatasetError, match=rf"has its images at localhost:{host.port} \(10 files\)"
    ) as refused:
        conversions.check(source)
    assert "DATASET_URL_HOSTS. Have these hosts added to the setting on the workers" in str(refused.value)
    assert not host.requested


def test_a_local_export_is_converted(conversions: World, host: ImageHost) -> None:
    conversions.upload_export("detect", host)
    source = str(conversions.folder / "mine.ndjson")
    assert conversions.check(source).origin == source


def test_images_of_an_earlier_export_at_the_same_path_are_not_used_for_a_new_export(
    conversions: World, host: ImageHost
) -> None:
    conversions.upload_export("detect", host)
    path = conversions.folder / "mine.ndjson"
    host.status["/photo-9.png"] = [500] * 2
    with pytest.raises(ImagesUnavailable):
        conversions.check(str(path))
    assert any(image.name == "photo-1.png" for image in fetched(conversions))
    host.files["/replaced.png"] = png(99)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1]["url"] = f"{host.url}/replaced.png"
    write(path, lines)
    found = contents(conversions.train(conversions.check(str(path))))
    assert found["images/train/photo-1.png"] == png(99)
    assert found["images/train/photo-2.png"] == host.files["/photo-2.png"]


def test_a_broken_export_and_broken_labels_are_refused(conversions: World, host: ImageHost) -> None:
    key = "sets/broken.ndjson"
    conversions.client.put_object(Bucket=conversions.bucket, Key=key, Body=b"PK\x03\x04")
    with pytest.raises(DatasetError, match=r"is not a valid \.ndjson export: line 1"):
        conversions.check(f"s3://{conversions.bucket}/{key}")
    with pytest.raises(DatasetError, match=r"missing\.ndjson does not exist"):
        conversions.check(f"s3://{conversions.bucket}/missing.ndjson")
    for name in ("instances.json", "annotations/instances.json"):
        moved = f"under a prefix, and give s3://{conversions.bucket}/mine/{name} for example"
        with pytest.raises(DatasetError, match=f"at the root of its bucket, .* {moved}"):
            conversions.check(f"s3://{conversions.bucket}/{name}")
