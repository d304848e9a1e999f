"""Changed data in S3 are announced once; a change is found from a listing, without reading objects."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airflow.sdk.execution_time.context import OutletEventAccessors

from include.datasets.check import inspect_dataset
from include.datasets.errors import DatasetError
from include.orchestration.assets import TRAINING_DATASET
from include.retraining.plans import Plans, RetrainPlan
from include.tasks.watch_dataset import announce_if_changed, find_change, list_datasets
from tests.support.airflow_connections import lead_to
from tests.support.dataset_fetcher import CountingReader
from tests.support.dataset_steps import upload_files, upload_zip
from tests.support.tiny_datasets import build

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.stack.s3 import S3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build("detect", tmp_path / "data", train=2, val=1)
    return tmp_path / "data"


@pytest.fixture
def dataset(folder: Path, s3_client: S3Client, bucket: str) -> str:
    upload_files(s3_client, bucket, folder, "sets/mine/")
    return f"s3://{bucket}/sets/mine/"


def test_content_is_announced_once_and_again_after_each_change(
    dataset: str, bucket: str, s3_client: S3Client, reader: CountingReader
) -> None:
    first = find_change(dataset, [], reader)
    assert first is not None
    assert first["dataset"] == dataset
    assert find_change(dataset, [first], reader) is None
    label = "sets/mine/labels/train/0.txt"
    s3_client.put_object(Bucket=bucket, Key=label, Body=b"0 0.5 0.5 0.1 0.1\n")
    second = find_change(dataset, [first], reader)
    assert second is not None
    assert second != first
    s3_client.delete_object(Bucket=bucket, Key=label)
    third = find_change(dataset, [second, first], reader)
    assert third is not None
    assert third not in (first, second)
    # A return to earlier content is also a change, because only the newest event is compared.
    s3_client.put_object(Bucket=bucket, Key=label, Body=b"0 0.5 0.5 0.1 0.1\n")
    assert find_change(dataset, [third, second, first], reader) == second
    assert reader.reads == 0


def test_the_announced_fingerprint_is_the_one_that_training_would_find(
    dataset: str, folder: Path, bucket: str, s3_client: S3Client, reader: CountingReader, tmp_path: Path
) -> None:
    packed = upload_zip(s3_client, bucket, folder)
    for source in (dataset, packed, f"{dataset}data.yaml"):
        news = find_change(source, [], reader)
        assert news is not None
        checked = inspect_dataset(source, "detect", tmp_path / "cache", reader).reference
        assert news["fingerprint"] == checked.fingerprint


def test_events_about_other_data_and_events_without_a_fingerprint_are_ignored(
    dataset: str, reader: CountingReader
) -> None:
    news = find_change(dataset, [], reader)
    assert news is not None
    others: list[dict[str, Any]] = [
        {"dataset": "s3://elsewhere/", "fingerprint": news["fingerprint"]},
        {"dataset": dataset},
        {},
    ]
    assert find_change(dataset, others, reader) == news
    assert find_change(dataset, [*others, news], reader) is None
    assert find_change(dataset, [*others, {**news, "dataset": dataset.rstrip("/")}], reader) is None


def test_missing_data_are_an_error_and_not_a_change(bucket: str, reader: CountingReader) -> None:
    with pytest.raises(DatasetError, match=f"There are no objects at s3://{bucket}/none/"):
        find_change(f"s3://{bucket}/none/", [], reader)
    with pytest.raises(DatasetError, match="does not exist"):
        find_change(f"s3://{bucket}/none.zip", [], reader)
    with pytest.raises(DatasetError, match="'digits' is not in S3, so it cannot be watched"):
        find_change("digits", [], reader)


def test_the_datasets_of_all_plans_are_watched_or_only_the_requested_one() -> None:
    names = ("s3://bucket/a/", "digits", "s3://bucket/b.zip", "s3://bucket/a/", "/data/c")
    plans = [
        RetrainPlan.model_validate({"name": f"plan-{number}", "dataset": name})
        for number, name in enumerate(names)
    ]
    deployed = Plans(Path("plans.yaml"), {plan.name: plan for plan in plans}, ())
    assert list_datasets({}, deployed) == ["s3://bucket/a/", "s3://bucket/b.zip"]
    assert list_datasets({"dataset": "s3://bucket/other/"}, deployed) == ["s3://bucket/other/"]
    for conf, message in (
        ({"dataset": "digits"}, "is not in S3"),
        ({"dataset": "s3://bucket/a.tar"}, "only .zip"),
        ({"prefix": "s3://bucket/"}, "prefix is not a parameter of watch_dataset"),
    ):
        with pytest.raises(AirflowFailException, match=message):
            list_datasets(conf, deployed)


class Events(list[SimpleNamespace]):
    """The events of an asset, as a task sees them."""

    def ascending(self, ascending: bool) -> Events:
        return self if ascending else Events(reversed(self))

    def limit(self, limit: int) -> Events:
        return Events(self[:limit])


def test_the_event_names_the_changed_data_and_a_task_without_changes_is_skipped(
    dataset: str, s3: S3, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lead_to(monkeypatch, "postgresql://nobody@127.0.0.1:1/none", s3, bucket, tmp_path)
    events, emitted = Events(), OutletEventAccessors()
    context = cast("Context", {"inlet_events": {TRAINING_DATASET: events}, "outlet_events": emitted})
    news = announce_if_changed(dataset, context)
    assert emitted[TRAINING_DATASET].extra == news == find_change(dataset, [], CountingReader(s3.client()))
    events.append(SimpleNamespace(extra=news))
    with pytest.raises(AirflowSkipException, match="has not changed since the last announcement"):
        announce_if_changed(dataset, context)
    events.append(SimpleNamespace(extra=None))
    events.append(SimpleNamespace(extra={**news, "fingerprint": "of what came later"}))
    assert announce_if_changed(dataset, context) == news
