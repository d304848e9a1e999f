"""Each change in the source of a watched dataset is registered once, by a run of `register_dataset`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from include.registry.repository import DatasetRepository
from include.retraining.plans import Plans, RetrainPlan
from include.s3.bucket import Bucket
from include.tasks.register_dataset import announce_version
from include.tasks.watch_dataset import find_watched, list_registrations
from tests.support.coco_datasets import build_coco
from tests.support.dataset_steps import upload_zip
from tests.support.registered_datasets import register
from tests.support.registrations import add_image, registered, run_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def plans(*datasets: str) -> Plans:
    made = [
        RetrainPlan.model_validate({"name": f"plan-{number}", "dataset": dataset})
        for number, dataset in enumerate(datasets)
    ]
    return Plans(Path("plans.yaml"), {plan.name: plan for plan in made}, ())


def test_each_change_of_a_watched_source_becomes_one_registration(
    source: str, machine: Path, datasets: DatasetRepository, s3_client: S3Client, bucket: str
) -> None:
    nowhere = (f"s3://{bucket}/none/", f"s3://{bucket}-none/")
    deployed = plans("parts", "digits", source, "/data/x", *nowhere)
    (found,) = list_registrations({}, deployed)
    assert found.conf == {
        "name": "plan-2",
        "source": source,
        "task": "detect",
        "note": "Found by watch_dataset.",
    }
    registered("run1", **found.conf)
    assert list_registrations({}, deployed) == []
    registered("run2", name="parts", source=source)
    assert list_registrations({}, deployed) == []

    add_image(s3_client, bucket, machine)
    changed = list_registrations({}, deployed)
    assert [each.conf["name"] for each in changed] == ["parts", "plan-2"]
    assert list_registrations({}, deployed) == changed  # the same run ids; those runs exist by then
    assert list_registrations({"dataset": "parts"}, plans()) == changed[:1]
    assert list_registrations({"dataset": source}, plans()) == changed
    for number, each in enumerate(changed):
        registered(f"watch{number}", **each.conf)
    assert list_registrations({}, deployed) == []
    with pytest.raises(AirflowFailException, match="dataset='partz' is not registered"):
        list_registrations({"dataset": "partz"}, deployed)


def test_a_converted_source_is_checked_once_after_each_version(
    machine: Path, datasets: DatasetRepository, s3_client: S3Client, bucket: str
) -> None:
    folder = build_coco(machine / "coco")
    source = upload_zip(s3_client, bucket, folder)
    registered("run1", name="parts", source=source)
    (again,) = list_registrations({}, plans("parts"))
    assert again.conf["source"] == source
    checked = registered("watch1", **again.conf)
    assert (checked.version, checked.created) == (1, False)
    with pytest.raises(AirflowSkipException, match="parts@1 already had this content"):
        announce_version(checked, run_of())
    assert list_registrations({}, plans("parts")) == [again]  # that run exists, so nothing is triggered

    (folder / "train2017" / "train2017-1.png").write_bytes(
        (folder / "train2017" / "train2017-2.png").read_bytes()
    )
    assert upload_zip(s3_client, bucket, folder) == source
    (changed,) = list_registrations({}, plans("parts"))
    assert changed.trigger_run_id != again.trigger_run_id
    assert registered("watch2", **changed.conf).created
    (last,) = list_registrations({}, plans("parts"))
    assert last.trigger_run_id not in {again.trigger_run_id, changed.trigger_run_id}
    checked = registered("watch3", **last.conf)
    assert (checked.version, checked.created) == (2, False)
    assert len(datasets.list_versions("parts")) == 2


def test_a_converted_local_source_is_not_watched_and_its_content_is_recognised(
    machine: Path, datasets: DatasetRepository
) -> None:
    source = str(build_coco(machine / "coco"))
    for number in (1, 2):
        version = registered(f"run{number}", name="parts", source=source)
        assert (version.version, version.created) == (1, number == 1)
    assert datasets.require_version("parts", 1).origin == source
    assert list_registrations({}, plans("parts")) == []


def test_an_archived_version_is_not_registered_again(
    source: str, machine: Path, datasets: DatasetRepository, s3_client: S3Client, bucket: str
) -> None:
    registered("run1", name="parts", source=source)
    add_image(s3_client, bucket, machine)
    registered("run2", name="parts", source=source)
    datasets.set_archived("parts", 2, archived=True)
    for deployed in (plans("parts"), plans(source)):
        assert list_registrations({}, deployed) == []
    # A run may have been triggered before the version was archived, or for converted data, whose source
    # has no recorded fingerprint.
    late = registered("watch__parts__1__abc", name="parts", source=source)
    assert (late.version, late.created) == (2, False)
    datasets.set_archived("parts", 1, archived=True)
    assert list_registrations({}, plans(source)) == []
    add_image(s3_client, bucket, machine, "corrected")
    (found,) = list_registrations({}, plans(source))
    assert registered(found.trigger_run_id, **found.conf).version == 3


@pytest.mark.parametrize("by", ["address", "name"])
def test_data_that_were_replaced_by_an_upload_are_registered_again_only_when_they_change(
    by: str, source: str, machine: Path, datasets: DatasetRepository, s3_client: S3Client, bucket: str
) -> None:
    plan = RetrainPlan.model_validate({"name": "parts", "dataset": source if by == "address" else "parts"})
    deployed = Plans(Path("plans.yaml"), {"parts": plan}, ())
    registered("run1", name="parts", source=source)
    register(datasets, "parts", "a", source=f"s3://{bucket}/uploads/a/")
    assert list_registrations({}, deployed) == []
    assert registered("watch__parts__1__abc", name="parts", source=source).created is False
    add_image(s3_client, bucket, machine)
    (found,) = list_registrations({}, deployed)
    assert registered(found.trigger_run_id, **found.conf).version == 3
    assert registered("by hand", name="parts", source=source).created is False


def test_a_plan_called_digits_does_not_create_a_dataset_of_that_name(
    datasets: DatasetRepository, s3_client: S3Client, bucket: str
) -> None:
    stored = Bucket(s3_client, bucket)
    plan = RetrainPlan.model_validate({"name": "digits", "dataset": "s3://bucket/digits/"})
    deployed = Plans(Path("plans.yaml"), {"digits": plan}, ())
    assert find_watched(None, deployed, datasets, stored) == []
    register(datasets, "numbers", "a", source="s3://bucket/digits/")
    assert [each.name for each in find_watched(None, deployed, datasets, stored)] == ["numbers"]


def test_a_plan_that_names_a_particular_version_watches_nothing(
    datasets: DatasetRepository, s3_client: S3Client, bucket: str
) -> None:
    register(datasets, "parts", "a")
    stored = Bucket(s3_client, bucket)
    assert find_watched(None, plans("parts@1", "unknown"), datasets, stored) == []
    found = find_watched(None, plans("parts", "parts@1"), datasets, stored)
    assert [each.name for each in found] == ["parts"]
