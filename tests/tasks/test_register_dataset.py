"""Data that pass the check become a version for training runs; changed data become the next version."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from include.audit.dataset_deletion import delete_unused_objects, delete_version
from include.claim.dataset_check import REGISTERED, check_parameter
from include.datasets.caching.fetch import materialize
from include.datasets.caching.listing import S3Listings
from include.datasets.errors import DatasetError
from include.datasets.rules import CheckRules
from include.datasets.s3 import S3ObjectReader
from include.datasets.uploads.plan import UploadFile, plan_upload
from include.datasets.uploads.store import UploadStore
from include.deployment.settings import Settings
from include.orchestration.assets import TRAINING_DATASET
from include.registry.difference import load_difference
from include.registry.manifests import open_manifest
from include.registry.objects import lock_objects
from include.registry.repository import DatasetRepository
from include.s3.bucket import Bucket
from include.tasks.register_dataset import announce_version, check_data, record_version
from tests.support.coco_datasets import build_coco
from tests.support.dataset_steps import images, upload_files
from tests.support.registrations import add_image, registered, run_of
from tests.support.tiny_datasets import build

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.datasets.reference import DatasetReference
    from include.ultralytics_tasks import Task


def parameter(dataset: str, task: Task = "detect", rules: CheckRules = REGISTERED) -> DatasetReference:
    """Return the dataset that a training run with that parameter uses."""
    settings = Settings.from_environment()
    bucket = Bucket(_client(), settings.bucket)
    return check_parameter(dataset, task, settings, bucket, rules).reference


def _client() -> S3Client:
    from include.deployment.connections import create_s3_client

    return create_s3_client()


def test_checked_data_become_a_version_with_manifest_samples_and_report(
    source: str, datasets: DatasetRepository, s3_client: S3Client, bucket: str
) -> None:
    first = registered("run1", name="parts", source=source, note="first")
    assert (first.name, first.version, first.created) == ("parts", 1, True)
    version = datasets.require_version("parts", 1)
    assert (version.source, version.task, version.train_images, version.val_images) == (
        source,
        "detect",
        3,
        2,
    )
    assert (version.note, version.created_by, version.run_id) == ("first", "ada", "run1")
    assert [count.name for count in version.class_table or ()] == ["box", "arrow"]
    assert version.report == f"s3://{bucket}/datasets/reports/{version.fingerprint}-detect.json"
    kept = Bucket(s3_client, bucket)
    with open_manifest(kept, version.fingerprint, "detect") as entries:
        assert [(entry.split, entry.name) for entry in entries] == [
            ("train", "0.png"),
            ("val", "0.png"),
            ("train", "1.png"),
            ("val", "1.png"),
            ("train", "2.png"),
        ]
    assert len(list(kept.list_objects(f"datasets/samples/{version.fingerprint}-detect/"))) > 1


def test_a_training_run_gets_the_registered_data_whatever_has_been_added_since_then(
    source: str, machine: Path, s3_client: S3Client, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered("run1", name="parts", source=source)
    add_image(s3_client, bucket, machine)
    monkeypatch.setenv("TRAINING_ROOT", str(machine / "another"))
    found = parameter("parts@1")
    assert (str(found.version), found.parameter, found.source) == ("parts@1", "parts@1", source)
    assert found.train_images == 3
    reader, listings = S3ObjectReader(s3_client), S3Listings(Bucket(s3_client, bucket))
    with materialize(found, machine / "third" / "cache", reader, listings=listings) as local:
        assert len(images(local)) == 5
    registered("run2", name="parts", source=source)
    assert parameter("parts@2").train_images == 4
    assert parameter("parts@1").train_images == 3


def test_a_version_whose_data_were_replaced_is_refused_with_a_reason(
    source: str, machine: Path, s3_client: S3Client, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered("run1", name="parts", source=source)
    s3_client.put_object(Bucket=bucket, Key="set/labels/train/0.txt", Body=b"0 0.5 0.5 0.2 0.2\n")
    assert parameter("parts@1").train_images == 3  # this machine has the old data
    monkeypatch.setenv("TRAINING_ROOT", str(machine / "another"))
    with pytest.raises(DatasetError) as refused:
        parameter("parts@1")
    message = str(refused.value)
    assert message.startswith(f"dataset='parts@1' can no longer be used, because {source} has changed since")
    assert "labels/train/0.txt was replaced" in message


def test_a_version_at_a_path_whose_files_changed_is_refused_with_a_reason(
    machine: Path, datasets: DatasetRepository
) -> None:
    path = str(machine / "data" / "data.yaml")
    registered("run1", name="parts", source=path)
    assert parameter("parts").fingerprint == datasets.require_version("parts", 1).fingerprint
    shutil.copy(machine / "data/images/train/0.png", machine / "data/images/train/9.png")
    shutil.copy(machine / "data/labels/train/0.txt", machine / "data/labels/train/9.txt")
    with pytest.raises(DatasetError, match=r"dataset='parts@1' can no longer be used, because .*data\.yaml"):
        parameter("parts")


def test_a_version_at_a_path_is_also_compared_for_another_task_and_split(
    machine: Path, datasets: DatasetRepository
) -> None:
    build("segment", machine / "data", train=3, val=2)
    path = str(machine / "data" / "data.yaml")
    registered("run1", name="parts", source=path, task="segment")
    as_registered = datasets.require_version("parts", 1).fingerprint
    assert parameter("parts", "detect").fingerprint == as_registered  # the same files
    with pytest.raises(DatasetError, match=r"'parts@1' cannot be used with task=segment and split=train"):
        parameter("parts", "segment", CheckRules(split="train"))
    shutil.copy(machine / "data/labels/train/1.txt", machine / "data/labels/train/0.txt")
    for task in ("segment", "detect"):
        with pytest.raises(DatasetError, match="changed since"):
            parameter("parts", task)


def test_the_digits_can_be_registered(machine: Path) -> None:
    version = registered("run1", name="numbers", source="digits")
    assert parameter("numbers").fingerprint == version.fingerprint


def test_a_new_version_is_compared_and_announced_and_known_content_is_not(
    source: str, machine: Path, datasets: DatasetRepository, s3_client: S3Client, bucket: str
) -> None:
    context = run_of()
    first = registered("run1", name="parts", source=source)
    assert announce_version(first, context) == {
        "dataset": "parts",
        "version": 1,
        "fingerprint": first.fingerprint,
    }
    assert context["outlet_events"][TRAINING_DATASET].extra["dataset"] == "parts"
    again = registered("run2", name="parts", source=source)
    assert (again.version, again.created) == (1, False)
    with pytest.raises(AirflowSkipException, match="parts@1 already had this content"):
        announce_version(again, run_of())

    add_image(s3_client, bucket, machine)
    second = registered("run3", name="parts", source=source)
    announce_version(second, run_of())
    old, new = (datasets.require_version("parts", number) for number in (1, 2))
    found = load_difference(Bucket(s3_client, bucket), old, new)
    assert found is not None
    assert {kind: changes.count for kind, changes in found if changes.count} == {"added": 1}
    assert [image.name for image in found.added.examples] == ["new.png"]


def test_a_new_version_is_announced_even_if_the_manifest_of_the_previous_one_is_damaged(
    source: str, machine: Path, s3_client: S3Client, bucket: str
) -> None:
    first = registered("run1", name="parts", source=source)
    s3_client.put_object(
        Bucket=bucket, Key=f"datasets/manifests/{first.fingerprint}-detect.jsonl.gz", Body=b"damaged"
    )
    add_image(s3_client, bucket, machine)
    context = run_of()
    announce_version(registered("run2", name="parts", source=source), context)
    assert context["outlet_events"][TRAINING_DATASET].extra["version"] == 2


def test_refused_data_become_no_version_and_the_reason_is_passed_on(
    source: str, datasets: DatasetRepository, s3_client: S3Client, bucket: str
) -> None:
    s3_client.put_object(Bucket=bucket, Key="set/labels/train/0.txt", Body=b"7 0.5 0.5 0.2 0.2\n")
    context = run_of(name="parts", source=source)
    with pytest.raises(AirflowFailException, match=r"labels/train/0\.txt"):
        check_data(context)
    assert "labels/train/0.txt" in cast("Any", context["ti"]).sent["refusal"]
    assert datasets.get("parts") is None
    for conf, message in (
        ({"name": "parts"}, "source"),
        ({"name": "digits", "source": source}, "name='digits' is refused"),
        ({"name": "parts", "source": source, "colour": "x"}, "colour is not a parameter of register_dataset"),
    ):
        context = run_of(**conf)
        with pytest.raises(AirflowFailException, match=message):
            check_data(context)
        assert message in cast("Any", context["ti"]).sent["refusal"]


def test_only_a_complete_upload_can_be_used(
    machine: Path, datasets: DatasetRepository, s3_client: S3Client, bucket: str
) -> None:
    store = UploadStore(Bucket(s3_client, bucket))
    files = [file for file in (machine / "data").rglob("*") if file.is_file()]
    announced = [
        UploadFile(path=str(file.relative_to(machine / "data")), size=file.stat().st_size) for file in files
    ]
    upload = store.begin(plan_upload(announced, "ada"))
    upload_files(s3_client, bucket, machine / "data", upload.prefix)
    source = f"s3://{bucket}/{upload.prefix.rstrip('/')}"
    with pytest.raises(AirflowFailException, match="is an upload that is not complete"):
        registered("run1", name="parts", source=source)
    with pytest.raises(DatasetError, match="is an upload that is not complete"):
        parameter(source)
    store.complete(upload.upload_id)
    assert registered("run2", name="parts", source=source).created
    assert parameter(source).train_images == 3
    store.remove(store.find(upload.upload_id))
    with pytest.raises(DatasetError, match="is an upload that was removed"):
        parameter(source)


def test_data_that_are_deleted_during_their_check_become_no_version(
    source: str,
    datasets: DatasetRepository,
    connection: psycopg.Connection[Any],
    s3_client: S3Client,
    bucket: str,
) -> None:
    registered("run1", name="parts", source=source)
    context = run_of("run2", name="others", source=source)
    checked = check_data(context)
    version = datasets.require_version("parts", 1)
    delete_version(connection, version)
    delete_unused_objects(connection, Bucket(s3_client, bucket), version)
    with pytest.raises(AirflowFailException, match="was deleted with another version of the same data"):
        record_version(checked, context)
    assert datasets.get("others") is None
    assert registered("run3", name="others", source=source).created


def test_a_version_is_recorded_before_or_after_the_deletion_of_its_objects(
    source: str, datasets: DatasetRepository, migrated_url: str
) -> None:
    context = run_of("run1", name="parts", source=source)
    checked = check_data(context)
    with ThreadPoolExecutor(1) as threads, psycopg.connect(migrated_url) as deleting:
        with deleting.transaction():
            lock_objects(deleting, [checked.dataset.fingerprint])
            recording = threads.submit(record_version, checked, context)
            with pytest.raises(TimeoutError):
                recording.result(0.5)
        assert recording.result().created


def test_a_converted_copy_must_be_complete_when_it_is_recorded(
    machine: Path, datasets: DatasetRepository, s3_client: S3Client, bucket: str
) -> None:
    build_coco(machine / "coco")
    upload_files(s3_client, bucket, machine / "coco", "coco/")
    context = run_of("run1", name="parts", source=f"s3://{bucket}/coco/")
    checked = check_data(context)
    place = Bucket(s3_client, bucket)
    prefix = checked.dataset.source.removeprefix(f"s3://{bucket}/").removesuffix("data.yaml")
    place.delete(next(place.list_objects(f"{prefix}images/")).location.key)
    with pytest.raises(AirflowFailException, match="was deleted with another version of the same data"):
        record_version(checked, context)
    assert registered("run2", name="parts", source=f"s3://{bucket}/coco/").created


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("datasets", "is under datasets/"),
        (f"datasets/{'a' * 64}/", "is under datasets/"),
        (f"datasets/{'a' * 64}/images/", "is under datasets/"),
        ("datasets/manifests/", "is under datasets/"),
        ("uploads/", "contains every upload"),
    ],
)
def test_the_projects_own_objects_are_not_registered(
    machine: Path, bucket: str, key: str, message: str
) -> None:
    with pytest.raises(AirflowFailException, match=message):
        check_data(run_of(name="parts", source=f"s3://{bucket}/{key}"))
