"""A run takes the newest version of the dataset that it names; a resumed training run keeps its version."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from include.checkpoints.checkpoint import Checkpoint
from include.checkpoints.store import CheckpointStore
from include.claim.resolve import check
from include.jobs.repository import JobRepository
from include.jobs.spec import SpecError
from include.registry.repository import DatasetRepository
from include.s3.bucket import Bucket
from tests.support.claims import RUN, Claims
from tests.support.jobs import recorded
from tests.support.registered_datasets import register

if TYPE_CHECKING:
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

LATER = replace(RUN, run_id="manual__2")
PARTS = {"job_id": "a", "dataset": "parts", "model": "yolo11n", "epochs": 9}


@pytest.fixture
def own_store(s3_client: S3Client, bucket: str) -> CheckpointStore:
    return CheckpointStore(Bucket(s3_client, bucket), run_id="manual__1")


@pytest.fixture(autouse=True)
def _registered(datasets: DatasetRepository) -> None:
    """Register one version of the dataset `parts`."""
    register(datasets, "parts", "a")


def _store_a_state(jobs: JobRepository, store: CheckpointStore, folder: Path) -> None:
    """Leave job a as if its training had stored a state and was interrupted."""
    file = folder / "last.pt"
    file.write_bytes(b"last")
    store.upload(Checkpoint.of_file(file, epoch=4), "a", "last", "8.4")
    jobs.leave_queue("a", "manual__1", 1)
    jobs.start_training("a", "manual__1", 1, first_epoch=0)
    jobs.record_durable("a", "manual__1", 1, 4)


def test_a_name_is_replaced_by_its_newest_version_and_the_row_names_it(
    resolving: Claims, datasets: DatasetRepository, jobs: JobRepository
) -> None:
    register(datasets, "parts", "b")
    job = resolving(PARTS)
    assert job.spec.dataset == "parts@2"
    assert job.identity()["dataset"] == "parts@2"
    row = recorded(jobs)
    assert (row.dataset_name, row.dataset_version) == ("parts", 2)
    older = resolving(PARTS | {"job_id": "b", "dataset": "parts@1"})
    assert older.spec.dataset == "parts@1"
    assert resolving({"job_id": "c", "dataset": "digits"}).spec.dataset == "digits"
    digits = recorded(jobs, "c")
    assert (digits.dataset_name, digits.dataset_version) == (None, None)


def test_a_repeated_run_keeps_its_version_and_another_run_takes_the_newest(
    resolving: Claims, datasets: DatasetRepository
) -> None:
    assert resolving(PARTS).spec.dataset == "parts@1"
    register(datasets, "parts", "b")
    assert resolving(PARTS).spec.dataset == "parts@1"
    assert resolving(PARTS, LATER).spec.dataset == "parts@2"  # nothing was trained yet


def test_a_resumed_training_run_keeps_its_version(
    resolving: Claims,
    datasets: DatasetRepository,
    jobs: JobRepository,
    own_store: CheckpointStore,
    tmp_path: Path,
) -> None:
    begun = resolving(PARTS)
    _store_a_state(jobs, own_store, tmp_path)
    register(datasets, "parts", "b")
    going_on = resolving(PARTS, LATER)
    assert going_on.identity() == begun.identity()
    assert resolving(PARTS | {"dataset": "parts@1"}, replace(RUN, run_id="manual__3")).spec == going_on.spec
    with pytest.raises(SpecError, match="dataset='parts@2' instead of 'parts@1'"):
        resolving(PARTS | {"dataset": "parts@2"}, replace(RUN, run_id="manual__4"))
    anew = resolving(PARTS | {"fresh": True}, replace(RUN, run_id="manual__5"))
    assert anew.spec.dataset == "parts@2"


def test_a_job_that_continues_another_keeps_its_version(
    resolving: Claims,
    datasets: DatasetRepository,
    jobs: JobRepository,
    own_store: CheckpointStore,
    tmp_path: Path,
) -> None:
    resolving(PARTS)
    _store_a_state(jobs, own_store, tmp_path)
    register(datasets, "parts", "b")
    for number, given in enumerate(({}, {"dataset": "parts"}, {"dataset": "parts@1"})):
        child = {"job_id": f"child-{number}", "resume_from": "a", "epochs": 20}
        assert resolving(child | given, LATER).spec.dataset == "parts@1"
        assert recorded(jobs, f"child-{number}").dataset_version == 1
    with pytest.raises(SpecError, match="dataset='parts@2' differs from 'parts@1' of job a"):
        resolving({"job_id": "other", "resume_from": "a", "epochs": 20, "dataset": "parts@2"}, LATER)


def test_the_task_is_that_of_the_version_unless_another_is_given(
    resolving: Claims,
    datasets: DatasetRepository,
    jobs: JobRepository,
    own_store: CheckpointStore,
    tmp_path: Path,
) -> None:
    register(datasets, "masks", "c", task="segment")
    begun = resolving({"job_id": "a", "dataset": "masks", "model": "yolo11n-seg"})
    assert begun.spec.task == "segment"
    _store_a_state(jobs, own_store, tmp_path)
    again = resolving({"job_id": "a", "dataset": "masks", "model": "yolo11n-seg"}, LATER)
    assert again.identity() == begun.identity()
    boxes = resolving({"job_id": "b", "dataset": "masks", "task": "detect", "model": "yolo11n"})
    assert boxes.spec.task == "detect"
    with pytest.raises(
        SpecError, match="model='yolo11n' is a model for detect, but the task is segment"
    ) as error:
        resolving({"job_id": "c", "dataset": "masks", "model": "yolo11n"})
    assert error.value.field == "model"


def test_an_unregistered_dataset_is_refused_before_anything_is_claimed(
    resolving: Claims, jobs: JobRepository
) -> None:
    for dataset, message in (
        ("partz", "dataset='partz' is not registered: the registered datasets are parts"),
        ("coco8", "Ultralytics' own datasets .* are not downloaded automatically"),
        ("parts@7", "dataset='parts@7' is not registered: the versions of parts are 1"),
        ("parts@x", "dataset='parts@x': a version is a whole number from 1"),
    ):
        params = PARTS | {"dataset": dataset}
        with pytest.raises(SpecError, match=message) as refusal:
            resolving(params)
        assert refusal.value.field == "dataset"
        with pytest.raises(SpecError, match=message):
            check(params, resolving.claimant())
    assert jobs.get("a") is None
