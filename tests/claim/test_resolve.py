"""A run's parameters become a job that may train, or are refused: on a real Postgres and a real S3."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from include.checkpoints.checkpoint import Checkpoint, CheckpointKind
from include.checkpoints.store import CheckpointStore
from include.claim.claimant import Claimant
from include.claim.resolve import resolve
from include.claim.resolved_job import ResolvedJob
from include.jobs.ownership import JobOwnership
from include.jobs.repository import JobRepository
from include.jobs.spec import SpecError
from include.registry.repository import DatasetRepository
from include.s3.bucket import Bucket
from include.s3.errors import StoreError
from tests.support.claims import RUN, Claims
from tests.support.jobs import claim, recorded
from tests.support.quotas import check_quota
from tests.support.release_server import finder

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.stack.s3 import S3

KINDS: tuple[CheckpointKind, ...] = ("best", "last")


@pytest.fixture(autouse=True)
def _autocommit(connection: psycopg.Connection[Any]) -> None:
    connection.autocommit = True


@pytest.fixture
def parents_store(s3_client: S3Client, bucket: str) -> CheckpointStore:
    """Return the store of the run that trained the parent."""
    return CheckpointStore(Bucket(s3_client, bucket), run_id="manual__0")


@pytest.fixture
def parent_job(
    resolving: Claims,
    parents_store: CheckpointStore,
    connection: psycopg.Connection[Any],
    tmp_path: Path,
) -> str:
    """Add a completed job of five epochs with both checkpoints in S3; return its id."""
    resolving({"job_id": "parent", "epochs": 5, "imgsz": 64}, replace(RUN, run_id="manual__0"))
    stored = {}
    for kind in KINDS:
        file = tmp_path / f"{kind}.pt"
        file.write_bytes(kind.encode() * 100)
        stored[kind] = Checkpoint.of_file(file, epoch=4)
        parents_store.upload(stored[kind], "parent", kind, "8.4")
    connection.execute(
        "UPDATE training_jobs SET status = 'completed', epoch = 4, "
        "best_checkpoint_path = %s, best_checkpoint_sha256 = %s, "
        "last_checkpoint_path = %s, last_checkpoint_sha256 = %s",
        [
            *(parents_store.build_uri("parent", "best"), stored["best"].sha256),
            *(parents_store.build_uri("parent", "last"), stored["last"].sha256),
        ],
    )
    return "parent"


def _refusal(resolving: Claims, params: dict[str, Any], **more: Any) -> str:
    with pytest.raises(SpecError) as refusal:
        resolving(params, **more)
    sentence, field = str(refusal.value), refusal.value.field
    assert "\n" not in sentence
    assert field == "overrides" or sentence.startswith(f"{field}=")
    return sentence


def test_a_new_job_gets_a_row_that_the_run_owns(resolving: Claims, jobs: JobRepository) -> None:
    job = resolving({"job_id": "new", "epochs": 3})
    row = recorded(jobs, "new")
    assert (row.status, row.dag_id, row.run_id, row.triggered_by) == (
        "queued",
        "train_yolo",
        "manual__1",
        "ada",
    )
    assert (row.epochs, row.best_checkpoint_path, row.last_checkpoint_path) == (3, None, None)
    assert job.spec.model == "yolo11n"
    assert row.spec is not None
    assert row.spec["dataset"] == "digits"


def test_a_generated_job_id_stays_the_same_when_the_task_is_retried(
    resolving: Claims,
) -> None:
    first, second = resolving({}), resolving({})
    assert first.job_id == second.job_id
    assert first.job_id.startswith("detect-20260102-030405-")
    assert resolving({}, replace(RUN, run_id="manual__2")).job_id != first.job_id


def test_a_resolved_job_survives_a_round_trip_through_json(resolving: Claims, parent_job: str) -> None:
    job = resolving({"job_id": "child", "resume_from": parent_job, "epochs": 9})
    assert ResolvedJob.model_validate(job.model_dump(mode="json")) == job


def test_a_job_that_another_run_is_training_is_refused(resolving: Claims, jobs: JobRepository) -> None:
    resolving({"job_id": "busy"})
    sentence = _refusal(resolving, {"job_id": "busy"}, run=replace(RUN, run_id="manual__2"), running=True)
    assert "job_id='busy' waits for a GPU in run manual__1" in sentence
    assert recorded(jobs, "busy").run_id == "manual__1"
    claim(jobs, "busy", "manual__1", expected="manual__1", gpu_limit=0)
    sentence = _refusal(resolving, {"job_id": "busy"}, run=replace(RUN, run_id="manual__2"), running=True)
    assert "job_id='busy' waits for its user's quota in run manual__1" in sentence
    jobs.leave_queue("busy", "manual__1", 1)
    sentence = _refusal(resolving, {"job_id": "busy"}, run=replace(RUN, run_id="manual__2"), running=True)
    assert "job_id='busy' is being trained in run manual__1" in sentence
    assert recorded(jobs, "busy").status == "running"


def test_a_cancelled_job_is_taken_over_before_its_run_has_ended(
    resolving: Claims, jobs: JobRepository
) -> None:
    resolving({"job_id": "cancelled"})
    jobs.cancel("cancelled")
    resolving({"job_id": "cancelled"}, replace(RUN, run_id="manual__2"), running=True)
    row = recorded(jobs, "cancelled")
    assert (row.status, row.run_id, row.stop_requested) == ("queued", "manual__2", False)


def test_a_job_whose_run_has_ended_is_taken_over(resolving: Claims, jobs: JobRepository) -> None:
    resolving({"job_id": "left"})
    resolving({"job_id": "left"}, replace(RUN, run_id="manual__2"), running=False)
    assert recorded(jobs, "left").run_id == "manual__2"


def test_a_completed_job_is_refused_unless_fresh(
    resolving: Claims, jobs: JobRepository, parent_job: str
) -> None:
    assert "is already completed" in _refusal(resolving, {"job_id": parent_job})
    assert recorded(jobs, parent_job).status == "completed"
    resolving({"job_id": parent_job, "fresh": True})
    row = recorded(jobs, parent_job)
    assert (row.status, row.last_checkpoint_sha256, row.run_id) == ("queued", None, "manual__1")


def test_a_cleared_run_takes_its_own_completed_job_again(
    resolving: Claims, jobs: JobRepository, parent_job: str
) -> None:
    resolving({"job_id": parent_job, "epochs": 5, "imgsz": 64}, replace(RUN, run_id="manual__0"))
    assert recorded(jobs, parent_job).status == "queued"


def test_a_waiting_row_of_the_host_application_says_why_it_was_refused(
    resolving: Claims, jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    connection.execute("INSERT INTO training_jobs (job_id, status) VALUES ('waiting', 'queued')")
    sentence = _refusal(resolving, {"job_id": "waiting", "overrides": {"mosiac": 1}})
    row = recorded(jobs, "waiting")
    assert (row.status, row.error) == ("failed", sentence)


def test_a_resumed_job_has_its_parents_parameters_and_state(
    resolving: Claims, jobs: JobRepository, parent_job: str
) -> None:
    job = resolving({"job_id": "child", "resume_from": parent_job, "epochs": 9})
    assert (job.spec.imgsz, job.spec.epochs) == (64, 9)
    assert job.resume is not None
    assert (job.resume.job_id, job.resume.epoch) == (parent_job, 4)
    assert job.resume.last.path.endswith("/checkpoints/parent/last.pt")
    assert recorded(jobs, "child").parent_job_id == parent_job
    assert recorded(jobs, parent_job).status == "completed"


def test_resume_from_a_job_that_does_not_exist_is_refused(resolving: Claims) -> None:
    assert "resume_from='nobody' does not exist" in _refusal(resolving, {"resume_from": "nobody"})


def test_resume_from_an_active_job_is_refused(resolving: Claims) -> None:
    resolving({"job_id": "busy"})
    sentence = _refusal(
        resolving, {"resume_from": "busy"}, run=replace(RUN, run_id="manual__2"), running=True
    )
    assert "resume_from='busy' waits for a GPU in run manual__1" in sentence


def test_resume_from_a_job_without_last_pt_is_refused_with_the_error_of_that_job(
    resolving: Claims, connection: psycopg.Connection[Any]
) -> None:
    resolving({"job_id": "broken"})
    connection.execute("UPDATE training_jobs SET status = 'failed', error = 'no images'")
    sentence = _refusal(resolving, {"resume_from": "broken"}, run=replace(RUN, run_id="manual__2"))
    assert "has no last.pt in S3" in sentence
    assert "no images" in sentence


def test_resume_from_a_job_that_started_over_does_not_take_its_earlier_state(
    resolving: Claims, parent_job: str, connection: psycopg.Connection[Any]
) -> None:
    resolving({"job_id": parent_job, "fresh": True}, replace(RUN, run_id="manual__2"))
    connection.execute("UPDATE training_jobs SET status = 'failed', error = 'no images'")
    sentence = _refusal(resolving, {"resume_from": parent_job, "epochs": 9})
    assert "belongs to an earlier training run with this job_id" in sentence


def test_a_failed_job_whose_run_was_cleared_is_not_taken_by_another_run(
    resolving: Claims, connection: psycopg.Connection[Any]
) -> None:
    resolving({"job_id": "cleared"})
    connection.execute("UPDATE training_jobs SET status = 'failed'")
    other = replace(RUN, run_id="manual__2")
    assert "is being trained in run" in _refusal(resolving, {"job_id": "cleared"}, run=other, running=True)


def test_resume_from_a_failed_job_continues_its_stored_state(
    resolving: Claims, parent_job: str, connection: psycopg.Connection[Any]
) -> None:
    connection.execute("UPDATE training_jobs SET status = 'failed', last_checkpoint_sha256 = NULL")
    job = resolving({"job_id": "child", "resume_from": parent_job, "epochs": 9})
    assert job.resume is not None
    assert job.resume.epoch == 4
    assert job.resume.best is not None


def test_a_best_pt_of_an_earlier_training_run_is_not_taken(
    resolving: Claims,
    parent_job: str,
    connection: psycopg.Connection[Any],
    s3_client: S3Client,
    bucket: str,
    tmp_path: Path,
) -> None:
    resolving({"job_id": parent_job, "fresh": True}, replace(RUN, run_id="manual__2"))
    newer = tmp_path / "newer.pt"
    newer.write_bytes(b"newer")
    CheckpointStore(Bucket(s3_client, bucket), run_id="manual__2").upload(
        Checkpoint.of_file(newer, epoch=2), parent_job, "last", "8.4"
    )
    connection.execute("UPDATE training_jobs SET status = 'failed'")
    job = resolving({"job_id": "child", "resume_from": parent_job, "epochs": 9})
    assert job.resume is not None
    assert (job.resume.epoch, job.resume.best) == (2, None)


def test_resume_from_a_stripped_last_pt_is_refused(
    resolving: Claims,
    parent_job: str,
    parents_store: CheckpointStore,
    connection: psycopg.Connection[Any],
    tmp_path: Path,
) -> None:
    stripped = tmp_path / "stripped.pt"
    stripped.write_bytes(b"stripped")
    parents_store.upload(Checkpoint.of_file(stripped, epoch=-1), parent_job, "last", "8.4")
    connection.execute("UPDATE training_jobs SET last_checkpoint_sha256 = NULL")
    assert "cannot be resumed, because it was not stored by this project" in _refusal(
        resolving, {"resume_from": parent_job, "epochs": 9}
    )


def test_resume_from_a_foreign_or_replaced_last_pt_is_refused(
    resolving: Claims,
    parent_job: str,
    parents_store: CheckpointStore,
    s3_client: S3Client,
    bucket: str,
    tmp_path: Path,
) -> None:
    other = tmp_path / "other.pt"
    other.write_bytes(b"other")
    parents_store.upload(Checkpoint.of_file(other, epoch=4), parent_job, "last", "8.4")
    assert "file has been replaced since then" in _refusal(
        resolving, {"resume_from": parent_job, "epochs": 9}
    )
    s3_client.put_object(Bucket=bucket, Key="checkpoints/parent/last.pt", Body=b"foreign")
    assert "not stored by this project" in _refusal(resolving, {"resume_from": parent_job, "epochs": 9})


@pytest.mark.parametrize("epochs", [None, 3, 5])
def test_resume_with_nothing_left_to_train_is_refused(
    resolving: Claims, parent_job: str, epochs: int | None
) -> None:
    sentence = _refusal(resolving, {"resume_from": parent_job, "epochs": epochs})
    assert "has finished 5 epochs; set epochs to more than 5" in sentence


def test_an_initial_model_that_is_not_in_s3_is_refused(resolving: Claims, bucket: str) -> None:
    with pytest.raises(Exception, match="does not exist at"):
        resolving({"model": f"s3://{bucket}/absent.pt"})


def test_a_run_with_the_id_of_a_deleted_run_starts_over_with_fresh(
    resolving: Claims, jobs: JobRepository, parent_job: str
) -> None:
    first = replace(RUN, run_id="manual__0")
    recreated = replace(first, created_at=datetime.now(tz=UTC) + timedelta(days=1))
    conf = {"job_id": parent_job, "epochs": 5, "imgsz": 64, "fresh": True}

    again = resolving(conf, first)  # cleared: the same run continues
    assert (again.origin_run_id, recorded(jobs, parent_job).epoch) == ("manual__0", 4)
    started_over = resolving(conf, recreated)
    assert started_over.origin_run_id.startswith("manual__0 of 20")
    row = recorded(jobs, parent_job)
    assert (row.epoch, row.run_id, row.origin_run_id) == (None, "manual__0", started_over.origin_run_id)


def test_a_state_whose_row_was_deleted_is_not_overwritten_silently(
    resolving: Claims,
    connection: psycopg.Connection[Any],
    jobs: JobRepository,
    parent_job: str,
) -> None:
    connection.execute("DELETE FROM training_jobs")
    refusal = _refusal(resolving, {"job_id": parent_job})
    assert refusal.startswith("job_id='parent' has no training run recorded in training_jobs, but s3://")
    assert "after epoch 5: its row was deleted" in refusal
    assert jobs.get(parent_job) is None
    assert resolving({"job_id": parent_job, "fresh": True}).origin_run_id == RUN.run_id


def test_an_outage_of_s3_does_not_fail_a_waiting_job(
    jobs: JobRepository, connection: psycopg.Connection[Any], bucket: str, s3: S3
) -> None:
    connection.execute("INSERT INTO training_jobs (job_id, status) VALUES ('waits', 'queued')")
    nowhere = replace(s3, ports=replace(s3.ports, s3=1)).client()
    claimant = Claimant(
        RUN, jobs, CheckpointStore(Bucket(nowhere, bucket)), lambda *_: False,
        finder(nowhere, bucket, connection), DatasetRepository(connection), check_quota(connection),
        JobOwnership(),
    )  # fmt: skip
    with pytest.raises(StoreError):
        resolve({"job_id": "waits"}, claimant)
    row = recorded(jobs, "waits")
    assert (row.status, row.error) == ("queued", None)
