"""A job continues only with data of the same classes as its state; this is checked before it takes a GPU."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from include.checkpoints.store import CheckpointStore
from include.claim.resolved_job import ResolvedJob, ResumePoint
from include.claim.same_classes import require_same_classes
from include.datasets.errors import DatasetError
from include.datasets.reference import DatasetReference
from include.jobs.spec import TrainingSpec
from include.s3.bucket import Bucket
from tests.support.tiny_datasets import CLASSES
from tests.support.untrained import stored_state

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.ultralytics_tasks import Task


def _job(
    resume: ResumePoint | None, overrides: dict[str, object] | None = None, task: Task = "detect"
) -> ResolvedJob:
    data = "digits" if task == "detect" else "/data"
    spec = TrainingSpec(dataset=data, task=task, overrides=overrides or None).with_defaults()
    return ResolvedJob(
        job_id="a", dag_id="train_yolo", run_id="r", origin_run_id="r", spec=spec, resume=resume
    )


def _data(classes: tuple[str, ...]) -> DatasetReference:
    return DatasetReference(
        source="digits",
        task="detect",
        fingerprint="0" * 64,
        train_images=1,
        val_images=1,
        classes=dict(enumerate(classes)),
        size=1,
    )


@pytest.mark.parametrize(
    ("classes", "overrides", "parts"),
    [
        (CLASSES, {}, None),
        (("item",), {"single_cls": True}, None),
        (CLASSES[::-1], {}, ("2 classes (arrow, box)", "2 classes (box, arrow)")),
        (("box",), {}, ("1 class (box)", "2 classes (box, arrow)")),
        (CLASSES, {"single_cls": True}, ("2 classes (box, arrow)", "1 class (item)")),
    ],
)
def test_a_job_is_resumed_only_with_the_classes_of_its_parent(
    s3_client: S3Client,
    bucket: str,
    tmp_path: Path,
    classes: tuple[str, ...],
    overrides: dict[str, object],
    parts: tuple[str, str] | None,
) -> None:
    last = stored_state(s3_client, bucket, tmp_path, "parent", "run0", classes)
    job = _job(ResumePoint(job_id="parent", last=last, best=None), overrides)
    store = CheckpointStore(Bucket(s3_client, bucket))
    if parts is None:
        require_same_classes(job, _data(CLASSES), store)
        return
    with pytest.raises(DatasetError) as refusal:
        require_same_classes(job, _data(CLASSES), store)
    before, now = parts
    assert f"job parent, from which this job resumes, was trained on {before}, but dataset=" in str(
        refusal.value
    )
    assert f"has {now}. A training run can continue only with the same classes" in str(refusal.value)


@pytest.mark.parametrize(
    ("task", "trained", "same"),
    [
        ("semantic", (*CLASSES, "background"), True),  # training adds this class if there are only outlines
        ("semantic", (*CLASSES, "ring"), False),
        ("detect", (*CLASSES, "background"), False),
        ("depth", ("distance",), True),
    ],
)
def test_only_the_classes_of_the_data_are_compared(
    s3_client: S3Client, bucket: str, tmp_path: Path, task: Task, trained: tuple[str, ...], same: bool
) -> None:
    last = stored_state(s3_client, bucket, tmp_path, "parent", "run0", trained)
    job = _job(ResumePoint(job_id="parent", last=last, best=None), task=task)
    with nullcontext() if same else pytest.raises(DatasetError):
        require_same_classes(job, _data(CLASSES), CheckpointStore(Bucket(s3_client, bucket)))


def test_a_state_of_another_training_run_with_the_same_job_id_is_ignored(
    s3_client: S3Client, bucket: str, tmp_path: Path
) -> None:
    store = CheckpointStore(Bucket(s3_client, bucket))
    require_same_classes(_job(None), _data(CLASSES), store)
    stored_state(s3_client, bucket, tmp_path, "a", "another run", CLASSES[::-1])
    require_same_classes(_job(None), _data(CLASSES), CheckpointStore(Bucket(s3_client, bucket)))


@pytest.mark.parametrize(
    ("now", "part"),
    [
        ([*map(str, range(50)), "other", *map(str, range(51, 100))], "; class 50 was 50 and is other."),
        (list(map(str, range(40))), "; class 40 was 40 and is none."),
        (["other"], "has 1 class (other). A training run"),
    ],
)
def test_the_first_difference_between_long_lists_is_named(
    s3_client: S3Client, bucket: str, tmp_path: Path, now: list[str], part: str
) -> None:
    names = tuple(str(number) for number in range(100))
    last = stored_state(s3_client, bucket, tmp_path, "parent", "run0", names)
    with pytest.raises(DatasetError) as refusal:
        require_same_classes(
            _job(ResumePoint(job_id="parent", last=last, best=None)),
            _data(tuple(now)),
            CheckpointStore(Bucket(s3_client, bucket)),
        )
    assert part in str(refusal.value)
    assert len(str(refusal.value)) < 1000
