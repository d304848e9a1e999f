"""Completion by a trainer outside Airflow: only files that the API has read are recorded, and only once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import requests

from include.checkpoints.store import CheckpointStore
from include.jobs.callback import TrainingCompletionCallback
from include.jobs.completion import CompletionConflict, record_completion
from include.jobs.repository import JobRepository
from include.s3.bucket import Bucket
from tests.api.conftest import refused, row
from tests.support.crafted_checkpoints import call, crafted
from tests.support.crafted_layouts import LAYOUTS, OTHER_FORMATS
from tests.support.jobs import claim, record_checkpoints, recorded, started

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BEST, LAST = b"the weights", b"the whole state"
Complete = Callable[..., requests.Response]


@pytest.fixture
def complete(api_url: str, bucket: str) -> Complete:
    """POST a completion of job a with the paths of both checkpoints, and the given fields."""

    def post(of: str = "a", /, **fields: Any) -> requests.Response:
        paths = {f"{kind}_checkpoint_path": f"s3://{bucket}/checkpoints/{of}/{kind}.pt"
                 for kind in ("best", "last")}  # fmt: skip
        return requests.post(f"{api_url}/jobs/{of}/completion", json=paths | fields, timeout=60)

    return post


@pytest.fixture
def uploaded(s3_client: S3Client, bucket: str) -> None:
    """Upload both files without our metadata, as another program would."""
    for kind, content in (("best", BEST), ("last", LAST)):
        s3_client.put_object(Bucket=bucket, Key=f"checkpoints/a/{kind}.pt", Body=content)


@pytest.mark.usefixtures("uploaded", "waiting")
def test_both_paths_are_enough(
    complete: Complete, connection: psycopg.Connection[Any], bucket: str, s3_client: S3Client
) -> None:
    answer = complete()
    assert answer.status_code == 200, answer.text
    shown, job = answer.json(), recorded(JobRepository(connection))
    assert shown["status"] == job.status == "completed"
    assert job.completed_at is not None
    assert (job.run_id, job.attempt) == (None, None)
    for kind, content in (("best", BEST), ("last", LAST)):
        assert shown[f"{kind}_checkpoint_path"] == f"s3://{bucket}/checkpoints/a/{kind}.pt"
        assert shown[f"{kind}_checkpoint_sha256"] == hashlib.sha256(content).hexdigest()
        assert shown[f"{kind}_checkpoint_size"] == len(content)
    store = CheckpointStore(Bucket(s3_client, bucket))
    for kind, content in (("best", BEST), ("last", LAST)):
        stored = store.head("a", kind)  # type: ignore[arg-type]
        assert stored is not None
        assert stored.checkpoint is not None
        assert (stored.job_id, stored.checkpoint.sha256) == ("a", hashlib.sha256(content).hexdigest())
        body = s3_client.get_object(Bucket=bucket, Key=f"checkpoints/a/{kind}.pt")["Body"].read()
        assert body == content


@pytest.mark.usefixtures("uploaded", "waiting")
def test_a_job_without_an_owner_can_be_completed_by_any_run(
    complete: Complete, connection: psycopg.Connection[Any]
) -> None:
    assert complete(dag_id="elsewhere", run_id="of-a-cluster").status_code == 200
    job = recorded(JobRepository(connection))
    assert (job.status, job.dag_id, job.run_id) == ("completed", None, None)


@pytest.mark.usefixtures("uploaded", "waiting")
def test_reported_values_are_recorded(complete: Complete, connection: psycopg.Connection[Any]) -> None:
    answer = complete(
        job_id="a",
        status="stopped",
        best_checkpoint_sha256=hashlib.sha256(BEST).hexdigest(),
        last_checkpoint_size=len(LAST),
        epoch=6,
        epochs=10,
        metrics={"metrics/mAP50(B)": 0.5, "val/loss": None},
    )
    assert answer.status_code == 200, answer.text
    job = recorded(JobRepository(connection))
    assert (job.status, job.epoch, job.durable_epoch, job.epochs) == ("stopped", 6, 6, 10)
    assert job.metrics == {"metrics/mAP50(B)": 0.5, "val/loss": None}
    assert job.completed_at is None


@pytest.mark.usefixtures("uploaded")
def test_values_that_are_not_reported_stay_unchanged(
    complete: Complete, connection: psycopg.Connection[Any], jobs: JobRepository
) -> None:
    started(jobs, epochs=3)
    jobs.fail_run("train_yolo", "run1", "lost")
    before = recorded(jobs)
    assert "run_id='run2' does not own job a" in refused(complete(run_id="run2"), 409)
    assert "dag_id='elsewhere' does not own job a" in refused(complete(dag_id="elsewhere"), 409)
    assert recorded(jobs) == before
    assert complete(run_id="run1", dag_id="train_yolo").status_code == 200
    after = recorded(jobs)
    assert (after.status, after.error) == ("completed", None)
    for column in ("epoch", "epochs", "metrics", "run_id", "dag_id", "origin_run_id", "spec"):
        assert getattr(after, column) == getattr(before, column)


@pytest.mark.usefixtures("uploaded", "waiting")
def test_a_repeated_completion_changes_nothing(
    complete: Complete, connection: psycopg.Connection[Any], s3_client: S3Client, bucket: str
) -> None:
    first = complete(epoch=4)
    before = row(connection)
    again = complete(epoch=4, last_checkpoint_sha256=hashlib.sha256(LAST).hexdigest())
    assert again.status_code == 200
    assert row(connection) == before
    assert again.json()["updated_at"] == first.json()["updated_at"]
    s3_client.delete_object(Bucket=bucket, Key="checkpoints/a/last.pt")  # as retention does
    connection.execute(
        "UPDATE training_jobs SET last_checkpoint_path = NULL, last_checkpoint_sha256 = NULL, "
        "last_checkpoint_size = NULL, last_checkpoint_expired_at = now()"
    )
    connection.commit()
    assert complete(epoch=4).status_code == 200


@pytest.mark.usefixtures("uploaded", "waiting")
@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"job_id": "b"}, 422, "job_id='b' does not match the job in the URL (a)"),
        ({"best_checkpoint_path": "s3://elsewhere/checkpoints/a/best.pt"}, 422, "is not where this job"),
        ({"last_checkpoint_path": "last.pt"}, 422, "last_checkpoint_path='last.pt' is not where"),
        ({"best_checkpoint_sha256": "0" * 64}, 422, "does not match the object in S3"),
        ({"last_checkpoint_size": 3}, 422, "last_checkpoint_size=3 does not match the object in S3 (15)"),
        ({"best_checkpoint_sha256": "short"}, 422, "best_checkpoint_sha256='short' is refused"),
        ({"status": "failed"}, 422, "status='failed' is refused"),
        ({"epoch": -1}, 422, "epoch=-1 is refused"),
        ({"epoch": 2**31}, 422, "epoch=2147483648 is refused"),
        ({"weights": "best.pt"}, 422, "Unknown parameter weights"),
        ({"run_id": "a" * 251}, 422, "string should have at most 250 characters"),
        ({"best_checkpoint_path": "a" * 501}, 422, "string should have at most 500 characters"),
        ({"metrics": dict.fromkeys(map(str, range(1001)), 0.5)}, 422, "should have at most 1000 items"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_and_nothing_is_recorded(
    complete: Complete, connection: psycopg.Connection[Any], fields: dict[str, Any], status: int, message: str
) -> None:
    before = row(connection)
    assert message in refused(complete(**fields), status)
    assert row(connection) == before


@pytest.mark.usefixtures("uploaded", "waiting")
def test_the_path_of_another_job_is_refused(
    complete: Complete, connection: psycopg.Connection[Any], bucket: str
) -> None:
    claim(JobRepository(connection), "b")
    answer = complete("b", best_checkpoint_path=f"s3://{bucket}/checkpoints/a/best.pt")
    assert f"upload the file to s3://{bucket}/checkpoints/b/best.pt" in refused(answer, 422)
    answer = complete("a", last_checkpoint_path=f"s3://{bucket}/checkpoints/a/../a/last.pt")
    assert "is not where this job" in refused(answer, 422)


@pytest.mark.usefixtures("waiting")
def test_missing_files_are_named(complete: Complete, s3_client: S3Client, bucket: str) -> None:
    s3_client.put_object(Bucket=bucket, Key="checkpoints/a/best.pt", Body=BEST)
    assert f"last_checkpoint_path='s3://{bucket}/checkpoints/a/last.pt' does not exist" in refused(
        complete(), 422
    )


@pytest.mark.usefixtures("waiting", "uploaded")
def test_a_completion_is_refused_if_the_metadata_contradict_the_bytes(
    complete: Complete, connection: psycopg.Connection[Any], s3_client: S3Client, bucket: str
) -> None:
    claimed = {"sha256": "1" * 64, "epoch": "3"}
    s3_client.put_object(Bucket=bucket, Key="checkpoints/a/last.pt", Body=LAST, Metadata=claimed)
    assert "does not match the object in S3" in refused(complete(last_checkpoint_sha256=None), 422)
    assert row(connection)["status"] == "queued"


def test_a_completion_of_an_unknown_job_is_refused(complete: Complete) -> None:
    assert "job_id='nobody' does not exist" in refused(complete("nobody"), 404)


@pytest.mark.usefixtures("uploaded")
def test_a_job_that_airflow_trains_is_completed_only_by_airflow(
    complete: Complete, jobs: JobRepository
) -> None:
    claim(jobs)
    assert "is being trained by run run1 of train_yolo" in refused(complete(), 409)
    jobs.start_training("a", "run1", 1, first_epoch=0)
    assert "is being trained by run run1 of train_yolo" in refused(complete(), 409)
    assert "does not own job a" in refused(complete(run_id="run2"), 409)
    assert recorded(jobs).status == "running"


@pytest.mark.usefixtures("uploaded")
def test_a_job_that_was_cancelled_while_it_waited_may_be_trained_elsewhere(
    complete: Complete, jobs: JobRepository
) -> None:
    claim(jobs)
    jobs.cancel("a")
    answer = complete()
    assert answer.status_code == 200, answer.text
    job = recorded(jobs)
    assert (job.status, job.stop_requested, job.origin) == ("completed", False, "external")


@pytest.mark.usefixtures("uploaded")
def test_a_completion_that_contradicts_the_recorded_one_is_refused(
    complete: Complete, connection: psycopg.Connection[Any], jobs: JobRepository
) -> None:
    started(jobs, epochs=3)
    record_checkpoints(connection)
    assert "contradicts the value recorded for job a" in refused(complete(), 409)
    assert recorded(jobs).best_checkpoint_sha256 == "b" * 64


@pytest.mark.usefixtures("uploaded", "waiting")
@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"epoch": 5}, "epoch=5 contradicts"),
        ({"epochs": 11}, "epochs=11 contradicts"),
        ({"metrics": {"loss": 0.5}}, "metrics={'loss': 0.5} contradicts"),
    ],
)
def test_other_numbers_for_the_same_files_are_refused(
    complete: Complete, connection: psycopg.Connection[Any], other: dict[str, Any], message: str
) -> None:
    fields = {"epoch": 4, "epochs": 10, "metrics": {"loss": 1e23, "mAP": 0.3, "box": None}}
    assert complete(**fields).status_code == 200
    before = row(connection)
    assert complete(**fields).status_code == 200
    assert message in refused(complete(**fields | other), 409)
    assert row(connection) == before


@pytest.mark.usefixtures("uploaded")
def test_numbers_that_a_host_application_recorded_do_not_prevent_a_completion(
    complete: Complete, connection: psycopg.Connection[Any]
) -> None:
    connection.execute(
        "INSERT INTO training_jobs (job_id, status, epoch, metrics, created_at) "
        """VALUES ('a', 'completed', 1, '{"quality": "good"}', 'infinity')"""
    )
    connection.commit()
    answer = complete(epoch=9, metrics={"mAP": 0.5})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["epoch"], answer.json()["metrics"]) == (9, {"mAP": 0.5})


@pytest.mark.usefixtures("uploaded")
@pytest.mark.parametrize(
    "change", ["run_id = 'run2'", "attempt = 2", "last_checkpoint_expired_at = now(), durable_epoch = NULL"]
)
def test_a_job_that_was_taken_over_while_its_files_were_read_is_not_completed(
    connection: psycopg.Connection[Any], migrated_url: str, s3_client: S3Client, bucket: str, change: str
) -> None:
    jobs = JobRepository(connection)
    started(jobs, epochs=3)
    jobs.fail_run("train_yolo", "run1", "lost")
    looks = iter([None, f"UPDATE training_jobs SET {change}"])

    @contextmanager
    def opening() -> Iterator[psycopg.Connection[Any]]:
        if meanwhile := next(looks):
            connection.execute(meanwhile)
            connection.commit()
        with psycopg.connect(migrated_url) as opened:
            yield opened

    place = f"s3://{bucket}/checkpoints/a"
    completion = TrainingCompletionCallback(
        best_checkpoint_path=f"{place}/best.pt", last_checkpoint_path=f"{place}/last.pt"
    )
    with pytest.raises(CompletionConflict, match="while its files were being read"):
        record_completion("a", completion, opening, Bucket(s3_client, bucket), "ada")
    assert recorded(jobs).status == "failed"


@pytest.mark.usefixtures("uploaded", "waiting")
def test_a_job_that_was_completed_is_not_stopped_afterwards(
    complete: Complete, connection: psycopg.Connection[Any]
) -> None:
    assert complete().status_code == 200
    assert "status='stopped' contradicts" in refused(complete(status="stopped"), 409)
    assert row(connection)["status"] == "completed"


@pytest.mark.usefixtures("uploaded", "waiting")
def test_nan_and_infinity_are_recorded_as_null(
    api_url: str, bucket: str, connection: psycopg.Connection[Any]
) -> None:
    place = f"s3://{bucket}/checkpoints/a"
    body = (
        f'{{"best_checkpoint_path": "{place}/best.pt", "last_checkpoint_path": "{place}/last.pt", '
        '"metrics": {"loss": NaN, "box": -Infinity, "mAP": 0.5}}'
    )
    answer = requests.post(
        f"{api_url}/jobs/a/completion", data=body, headers={"Content-Type": "application/json"}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["metrics"] == {"loss": None, "box": None, "mAP": 0.5}


@pytest.mark.usefixtures("uploaded", "waiting")
def test_only_one_of_two_simultaneous_completions_is_recorded(
    complete: Complete, connection: psycopg.Connection[Any]
) -> None:
    at_once = Barrier(6)

    def post(status: str) -> int:
        at_once.wait()
        return complete(status=status).status_code

    statuses = ["completed", "stopped"] * 3
    with ThreadPoolExecutor(len(statuses)) as threads:
        answers = list(threads.map(post, statuses))
    winner = row(connection)["status"]
    assert winner in {"completed", "stopped"}
    assert [answer == 200 for answer in answers] == [status == winner for status in statuses]
    assert set(answers) == {200, 409}


def _store(s3_client: S3Client, bucket: str, best: bytes, last: bytes) -> None:
    for kind, content in (("best", best), ("last", last)):
        s3_client.put_object(Bucket=bucket, Key=f"checkpoints/a/{kind}.pt", Body=content)


@pytest.mark.usefixtures("waiting")
def test_checkpoints_that_a_user_uploads_are_marked_as_external(
    complete: Complete, connection: psycopg.Connection[Any], s3_client: S3Client, bucket: str
) -> None:
    _store(s3_client, bucket, crafted(), crafted())
    shown = complete().json()
    assert (shown["origin"], shown["checkpoint_uploader"]) == ("external", "ada")
    assert shown["checkpoint_finding"] is None
    claim(JobRepository(connection), "a", run_id="run1", fresh=True)
    job = recorded(JobRepository(connection))
    assert (job.origin, job.checkpoint_uploader, job.checkpoint_finding) == (None, None, None)


@pytest.mark.usefixtures("uploaded", "waiting")
def test_a_file_that_is_not_a_checkpoint_is_recorded_with_the_reason(complete: Complete) -> None:
    shown = complete().json()
    assert shown["origin"] == "external"
    assert shown["checkpoint_finding"].startswith("best.pt is not a checkpoint")
    assert "; last.pt is not a checkpoint" in shown["checkpoint_finding"]


@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize("kind", ["best", "last"])
def test_files_that_name_code_are_refused(
    complete: Complete, connection: psycopg.Connection[Any], s3_client: S3Client, bucket: str, kind: str
) -> None:
    files = {"best": crafted(), "last": crafted()} | {kind: crafted(call("os.system", "true"))}
    _store(s3_client, bucket, **files)
    message = refused(complete(), 422)
    assert f"{kind}_checkpoint_path=" in message
    assert "is refused: it names os.system" in message
    assert row(connection)["best_checkpoint_path"] is None


@pytest.mark.usefixtures("waiting")
def test_files_that_some_loader_reads_as_an_executable_pickle_are_refused(
    complete: Complete, connection: psycopg.Connection[Any], s3_client: S3Client, bucket: str
) -> None:
    formats = "the format before, fourth stream", "a bare pickle of protocol 0", "a tar"
    twice = LAYOUTS["a pickle twice, the bad one last"]
    for content in (*(OTHER_FORMATS[name] for name in formats), twice):
        _store(s3_client, bucket, content, crafted())
        assert "is refused: it " in refused(complete(), 422)
    assert row(connection)["best_checkpoint_path"] is None


@pytest.mark.usefixtures("uploaded")
def test_the_origin_column_of_a_host_application_stays_unchanged(
    complete: Complete, connection: psycopg.Connection[Any]
) -> None:
    connection.execute("INSERT INTO training_jobs (job_id, origin) VALUES ('a', 'web'), ('b', 'web')")
    connection.commit()
    claim(JobRepository(connection), "b", run_id="run1")
    assert recorded(JobRepository(connection), "b").origin is None
    assert connection.execute("SELECT origin FROM training_jobs WHERE job_id = 'b'").fetchone() == ("web",)
    connection.commit()
    assert complete().json()["origin"] == "external"
