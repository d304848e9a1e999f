"""The whole states that the policy deletes, those that it never deletes, and the record of a deletion."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from include.checkpoints.store import CheckpointStore
from include.claim.claimant import Claimant, RunIdentity
from include.claim.resolve import resolve
from include.jobs.ownership import JobOwnership
from include.jobs.repository import JobRepository
from include.jobs.spec import SpecError
from include.registry.repository import DatasetRepository
from include.s3.bucket import Bucket
from include.stack.postgres import Postgres
from tests.support import host_applications
from tests.support.auditing import LAST, NOTHING, PREVIOUS, WHOLE, World, ended, expired, retained
from tests.support.jobs import record_checkpoints
from tests.support.quotas import check_quota
from tests.support.release_server import finder

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ANYONE = JobOwnership(open_to_all=True)


# --- states that the policy keeps ---


def test_the_newest_and_the_best_states_are_kept_and_so_is_every_best_pt(world: World) -> None:
    for number, fitness in enumerate([0.9, 0.1, 0.2, 0.8, 0.3, 0.4]):
        ended(world, f"job-{number}", days=100 - number, fitness=fitness)
    report = retained(world, NOTHING.model_copy(update={"keep_newest": 2, "keep_best": 2}))
    assert expired(world) == {"job-1", "job-2"}  # jobs 4 and 5 are the newest, 0 and 3 the best
    assert (report.jobs, report.objects, report.bytes) == (2, 4, 2 * (len(LAST) + len(PREVIOUS)))


def test_each_model_on_each_dataset_has_its_own_newest_and_best(world: World) -> None:
    for model in ("yolo11n", "yolo11s"):
        for dataset in ("digits", "s3://data/cars/"):
            for days in (50, 60):
                job_id = f"{model}-{dataset[:2]}-{days}"
                ended(world, job_id, days, spec={"model": model, "dataset": dataset})
    retained(world, NOTHING.model_copy(update={"keep_newest": 1}))
    assert expired(world) == {"yolo11n-di-60", "yolo11n-s3-60", "yolo11s-di-60", "yolo11s-s3-60"}


@pytest.mark.parametrize("model", ["s3://b/models/digits/versions/{}/best.pt", "model:digits@{}"])
def test_jobs_from_any_version_of_a_registered_model_count_as_one_model(world: World, model: str) -> None:
    for version in (1, 2):
        spec = {"model": model.format(version), "dataset": "digits"}
        ended(world, f"job-{version}", days=100 - version, spec=spec)
    retained(world, NOTHING.model_copy(update={"keep_newest": 1}))
    assert expired(world) == {"job-1"}


def test_other_weights_in_s3_are_identified_by_their_path(world: World) -> None:
    """Their path may resemble that of a registered version."""
    for name in ("small", "large"):
        ended(world, name, days=99, spec={"model": f"s3://b/models/cars/{name}.pt", "dataset": "digits"})
    retained(world, NOTHING.model_copy(update={"keep_newest": 1}))
    assert expired(world) == set()


def test_jobs_on_any_version_of_a_registered_dataset_count_as_one_dataset(world: World) -> None:
    for version in (1, 2):
        spec = {"model": "yolo11n", "dataset": f"parts@{version}"}
        named: dict[str, Any] = {"dataset_name": "parts", "dataset_version": version}
        ended(world, f"job-{version}", days=100 - version, spec=spec, **named)
    retained(world, NOTHING.model_copy(update={"keep_newest": 1}))
    assert expired(world) == {"job-1"}


def test_a_segmenter_is_ranked_by_boxes_and_masks_and_comes_last_without_metrics(world: World) -> None:
    box, mask = "metrics/mAP50-95(B)", "metrics/mAP50-95(M)"
    ended(world, "boxes", metrics={box: 0.6, mask: 0.1})
    ended(world, "masks", metrics={box: 0.4, mask: 0.5})
    ended(world, "none", days=1, metrics={box: None, mask: None})
    ended(world, "nothing", days=1, metrics=None)
    retained(world, NOTHING.model_copy(update={"keep_best": 1}))
    assert expired(world) == {"boxes", "none", "nothing"}


def test_a_state_expires_only_after_the_days_of_the_policy(world: World) -> None:
    ended(world, "young", days=29)
    ended(world, "old", days=31)
    retained(world, NOTHING.model_copy(update={"expire_after_days": 30}))
    assert expired(world) == {"old"}


def test_a_run_that_waited_for_days_deletes_nothing_that_ended_after_it_was_triggered(world: World) -> None:
    ended(world, "known", days=3)
    ended(world, "later", days=1)
    retained(world, requested_at=datetime.now(UTC) - timedelta(days=2))
    assert expired(world) == {"known"}


@pytest.mark.parametrize("status", ["failed", "stopped"])
def test_a_failed_or_stopped_job_is_as_old_as_its_last_change(world: World, status: str) -> None:
    """The whole state of such a job expires even if its row names no objects."""
    for job_id, days in (("young", 29), ("old", 31)):
        when = datetime.now(UTC) - timedelta(days=days)
        ended(world, job_id, status=status, completed_at=None, updated_at=when)
        world.change(job_id, last_checkpoint_path=None, last_checkpoint_sha256=None)
    retained(world, NOTHING.model_copy(update={"expire_after_days": 30}))
    assert expired(world) == {"old"}


@pytest.mark.parametrize("status", ["failed", "stopped"])
def test_the_time_at_which_a_job_ended_is_kept_when_its_state_expires(world: World, status: str) -> None:
    """Only updated_at records that time; without recorded GPU use, the job's duration is computed from it."""
    end = datetime.now(UTC) - timedelta(days=9)
    ended(world, "old", status=status, completed_at=None, updated_at=end)
    retained(world)
    assert expired(world) == {"old"}
    assert world.get("old")["updated_at"] == end


# --- states that are never deleted ---


def test_a_state_that_has_expired_is_not_recorded_again(world: World) -> None:
    """Only the task record_checkpoints of the job's run was cleared, so nothing was uploaded again."""
    ended(world, "a")
    retained(world)
    before = world.get("a")
    assert record_checkpoints(world.connection, "run of a") == 0
    assert world.get("a") == before
    assert world.audit().failure is None


def test_pinned_and_promoted_states_and_those_of_candidates_stay(world: World) -> None:
    for job_id in ("pinned", "production", "archived", "candidate", "rejected", "plain"):
        ended(world, job_id)
    world.change("pinned", pinned=True)
    for number, stage in enumerate(["production", "archived", "candidate", "rejected"]):
        world.connection.execute(
            "INSERT INTO model_versions (name, version, job_id, stage, path, sha256, size) "
            "VALUES ('digits', %s, %s, %s, 's3://b/k', 'x', 1)",
            [number + 1, stage, stage],
        )
    world.connection.commit()
    retained(world)
    assert expired(world) == {"rejected", "plain"}


def test_states_of_active_jobs_and_of_their_parents_stay(world: World) -> None:
    for job_id in ("running", "queued", "parent", "parent-of-ended"):
        ended(world, job_id)
    for status in ("running", "queued"):
        world.change(status, status=status)
    ended(world, "child", status="running", parent_job_id="parent")
    ended(world, "ended", days=0, parent_job_id="parent-of-ended")
    retained(world, NOTHING.model_copy(update={"expire_after_days": 1}))
    assert expired(world) == {"parent-of-ended"}


def test_the_state_of_a_cleared_run_is_kept(world: World) -> None:
    """The row says `failed` until training begins, and the job may wait for a GPU for hours."""
    ended(world, "cleared", status="failed")
    ended(world, "failed", status="failed")
    world.live = {("train_yolo", "run of cleared")}
    retained(world)
    assert expired(world) == {"failed"}


def test_the_state_of_a_cleared_run_is_kept_even_if_an_interrupted_deletion_has_marked_it(
    world: World,
) -> None:
    ended(world, "cleared", status="failed", last_checkpoint_expired_at=datetime.now(UTC))
    world.change("cleared", last_checkpoint_path=None, last_checkpoint_sha256=None, last_checkpoint_size=None)
    world.live = {("train_yolo", "run of cleared")}
    assert retained(world).objects == 0
    assert world.names("cleared") == WHOLE
    world.live = set()
    assert retained(world).objects == 2


def test_rows_of_a_host_application_that_were_never_trained_here_stay(world: World) -> None:
    world.row("7", run_id=None, dag_id=None, durable_epoch=None, last_checkpoint_path="s3://theirs/last.pt")
    world.put(world.uri("7", "last.pt"), LAST)
    assert retained(world).objects == 0
    assert world.get("7")["last_checkpoint_path"] == "s3://theirs/last.pt"


def test_uploaded_checkpoints_stay_even_if_a_host_application_has_recorded_its_own_run(world: World) -> None:
    ended(world, "uploaded", dag_id="their_dag", origin="external")
    ended(world, "trained")
    retained(world)
    assert expired(world) == {"trained"}


def test_the_table_of_a_host_application_keeps_its_own_types(
    postgres: Postgres, s3_client: S3Client, bucket: str, tmp_path: Path
) -> None:
    with host_applications.fresh_schema(postgres) as schema:
        with psycopg.connect(schema.owner_url) as connection:
            connection.execute(
                "CREATE TYPE status AS ENUM ('queued', 'running', 'completed', 'failed', 'stopped'); "
                "CREATE TABLE training_jobs (id serial PRIMARY KEY, job_id varchar(128) NOT NULL UNIQUE, "
                "status status, spec json, metrics json, run_id varchar(250), completed_at timestamp, "
                "updated_at timestamp DEFAULT now(), last_checkpoint_path text)"
            )
        with psycopg.connect(schema.migrate()) as connection:
            world = World(connection, s3_client, bucket, tmp_path)
            ended(world, "better", fitness=0.9)
            ended(world, "worse", fitness=0.1)
            long_ago = datetime.now(UTC) - timedelta(days=9)
            ended(world, "stuck", status="running", completed_at=None, updated_at=long_ago)
            assert world.audit().failure is None
            assert world.get("stuck")["status"] == "failed"
            retained(world, NOTHING.model_copy(update={"keep_best": 1, "expire_after_days": 1}))
            assert expired(world) == {"worse"}


# --- dry runs, and jobs whose state has expired ---


def test_a_dry_run_changes_nothing_and_reports_what_would_be_deleted(world: World) -> None:
    for number in range(3):
        ended(world, f"job-{number}", days=90 + number)
    policy = NOTHING.model_copy(update={"keep_newest": 1, "dry_run": True})
    before = [world.get(f"job-{number}") for number in range(3)]
    report = retained(world, policy)
    assert [world.get(f"job-{number}") for number in range(3)] == before
    assert expired(world) == set()
    size = len(LAST) + len(PREVIOUS)
    assert (report.jobs, report.objects, report.bytes) == (2, 4, 2 * size)
    assert report.shown == {"job-1": size, "job-2": size}
    assert "states of 2 jobs, 4 objects, 30.0 kB would be deleted (dry run)" in report.sentence
    assert "- job-1: 15.0 kB" in report.to_markdown()
    real = retained(world, policy.model_copy(update={"dry_run": False}))
    assert (real.jobs, real.objects, real.bytes) == (report.jobs, report.objects, report.bytes)


def test_reports_of_checks_expire_by_their_age(world: World) -> None:
    report = f"s3://{world.bucket}/reports/a/dataset.json"
    world.put(report, b"{}")
    assert retained(world, NOTHING.model_copy(update={"expire_after_days": 1})).reports == 0
    dry = retained(world, NOTHING.model_copy(update={"dry_run": True}))
    assert "1 older reports of dataset checks would be deleted (dry run)." in dry.sentence
    assert world.body(report) == b"{}"
    assert retained(world, NOTHING).reports == 1
    assert retained(world, NOTHING).reports == 0


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        (
            {"job_id": "child", "resume_from": "a"},
            "resume_from='a' can no longer be resumed: its last.pt was deleted by the retention policy on",
        ),
        ({"job_id": "b"}, "last.pt was deleted by the retention policy on"),
    ],
)
def test_the_error_for_an_expired_state_says_that_it_expired(
    world: World, params: dict[str, Any], sentence: str
) -> None:
    for job_id, status in (("a", "completed"), ("b", "failed")):
        ended(world, job_id, status=status, spec={"model": "yolo11n", "dataset": "digits", "task": "detect"})
    retained(world)
    run = RunIdentity("train_yolo", "new run", datetime.now(UTC), "ada")
    store = CheckpointStore(Bucket(world.client, world.bucket))
    weights = finder(world.client, world.bucket, world.connection)
    datasets, quota = DatasetRepository(world.connection), check_quota(world.connection)
    jobs = JobRepository(world.connection)
    with pytest.raises(SpecError, match=sentence):
        resolve(params, Claimant(run, jobs, store, lambda *_: False, weights, datasets, quota, ANYONE))


def test_a_job_that_expired_can_be_trained_again_from_the_start(world: World) -> None:
    ended(world, "a", status="failed")
    retained(world)
    run = RunIdentity("train_yolo", "new run", datetime.now(UTC), "ada")
    store = CheckpointStore(Bucket(world.client, world.bucket))
    jobs = JobRepository(world.connection)
    weights = finder(world.client, world.bucket, world.connection)
    datasets, quota = DatasetRepository(world.connection), check_quota(world.connection)
    params = {"job_id": "a", "fresh": True}
    resolve(params, Claimant(run, jobs, store, lambda *_: False, weights, datasets, quota, ANYONE))
    row = jobs.get("a")
    assert row is not None
    assert (row.run_id, row.last_checkpoint_expired_at) == ("new run", None)
