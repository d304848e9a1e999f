"""The reason why a run failed is recorded in its job's row, even if the database is unavailable at first."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import structlog
from airflow.api_fastapi.execution_api.datamodels.taskinstance import DagRun, TaskInstance, TIRunContext
from airflow.callbacks.callback_requests import DagCallbackRequest, DagRunContext, TaskCallbackRequest
from airflow.dag_processing.dagbag import DagBag
from airflow.dag_processing.processor import _execute_callbacks
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from include.datasets.errors import DatasetError
from include.datasets.reference import DatasetReference
from include.deployment.backend import notify
from include.deployment.retrying import BackendUnavailable, is_transient
from include.deployment.settings import SettingRefused, Settings
from include.jobs.callback import TrainingCompletionCallback
from include.jobs.spec import TrainingSpec
from include.orchestration.failures import record_final_failure, record_task_failure
from include.orchestration.typed_task import parse_result, result_of
from include.tasks.train_yolo import notify_backend
from tests.support.airflow_connections import TASK_INSTANCE_ID, context_of
from tests.support.cutting_proxy import CuttingProxy
from tests.support.http_server import Handler, Server
from tests.support.jobs import claim, record_checkpoints, recorded, resolved, started

if TYPE_CHECKING:
    import psycopg

    from include.jobs.repository import JobRepository

DAGS = Path(__file__).parents[2] / "dags"


def test_a_final_failure_is_recorded_before_the_task_ends_even_if_the_database_is_down_at_first(
    jobs: JobRepository, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim(jobs)
    server = migrated_url.partition("@")[2].partition("/")[0]
    with CuttingProxy(f"http://{server}", received=0, cuts=2) as proxy:
        through = migrated_url.replace(server, proxy.endpoint_url.removeprefix("http://"))
        monkeypatch.setenv("AIRFLOW_CONN_TRAINING_DB", through)
        with (
            pytest.raises(AirflowFailException, match="no images"),
            record_final_failure(context_of({})),
        ):
            raise DatasetError("dataset='x' has no images")
        assert proxy.cuts == 2
    row = recorded(jobs)
    assert (row.status, row.error) == ("failed", "check_schema: dataset='x' has no images")


def test_an_attempt_that_airflow_gave_up_cannot_fail_the_job_that_a_newer_attempt_trains(
    jobs: JobRepository, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(jobs, attempt=2)
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_DB", migrated_url)

    def fail(attempt: int) -> str | None:
        instance = SimpleNamespace(task_id="train", try_number=attempt)
        with pytest.raises(AirflowFailException), record_final_failure(context_of({}, ti=instance)):
            raise DatasetError("the data have changed")
        record_task_failure(context_of({}, ti=instance, exception=AirflowFailException("killed late")))
        return recorded(jobs).status

    assert fail(1) == "running"
    assert fail(2) == "failed"


def test_a_waiting_job_of_the_host_application_gets_the_error_of_its_first_run(
    connection: psycopg.Connection[Any],
    jobs: JobRepository,
    migrated_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_DB", migrated_url)
    connection.execute("INSERT INTO training_jobs (job_id, status) VALUES ('a', 'queued')")
    connection.commit()
    error = AirflowFailException("The schema is at revision 0003; run migrate_schema")
    record_task_failure(context_of({"job_id": "a"}, exception=error))
    row = recorded(jobs)
    assert row.status == "failed"
    assert row.error == "check_schema: The schema is at revision 0003; run migrate_schema"


def test_a_failure_is_recorded_although_a_setting_of_the_machine_is_invalid(
    jobs: JobRepository, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim(jobs)
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_DB", migrated_url)
    monkeypatch.setenv("DATASET_CACHE_GB", "half")
    with pytest.raises(SettingRefused) as refusal:
        Settings.from_environment()
    record_task_failure(context_of({}, exception=refusal.value))
    row = recorded(jobs)
    assert row.status == "failed"
    assert row.error is not None
    assert "DATASET_CACHE_GB='half' is not a number" in row.error


def run_of_dag_processor() -> DagRun:
    """Return the run that owns job a, as the scheduler describes it to the Dag processor."""
    now = datetime.now(UTC)
    unset = ("logical_date", "data_interval_start", "data_interval_end", "end_date", "partition_key")
    return DagRun.model_validate(
        dict.fromkeys(unset)
        | {
            "dag_id": "train_yolo",
            "run_id": "run1",
            "run_after": now,
            "start_date": now,
            "run_type": "manual",
            "state": "failed",
            "conf": {},
            "consumed_asset_events": [],
        }
    )


def call_in_dag_processor(request: DagCallbackRequest | TaskCallbackRequest) -> None:
    """Call the Dag's own callback in the way in which the Dag processor does."""
    bag = DagBag(str(DAGS / "train_yolo.py"), bundle_path=DAGS, bundle_name="dags")
    _execute_callbacks(bag, [request], structlog.get_logger())


def test_a_run_that_fails_without_a_failed_task_is_recorded(
    jobs: JobRepository, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim(jobs)
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_DB", migrated_url)
    # After only `train` was cleared, the tasks after it are still upstream_failed: Airflow names no task.
    call_in_dag_processor(
        DagCallbackRequest(
            filepath="train_yolo.py",
            bundle_name="dags",
            bundle_version=None,
            dag_id="train_yolo",
            run_id="run1",
            context_from_server=DagRunContext(dag_run=run_of_dag_processor(), last_ti=None),
            is_failure_callback=True,
            msg="task_failure",
        )
    )
    row = recorded(jobs)
    assert row.status == "failed"
    assert row.error is not None
    assert "a task was cleared without the tasks after it" in row.error
    assert row.error.endswith("Clear train with its downstream tasks.")


def test_a_task_that_airflow_fails_without_an_error_is_recorded_with_the_possible_causes(
    jobs: JobRepository, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim(jobs)
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_DB", migrated_url)
    instance = TaskInstance(
        id=TASK_INSTANCE_ID,
        dag_version_id=TASK_INSTANCE_ID,
        dag_id="train_yolo",
        task_id="train",
        run_id="run1",
        try_number=1,
        hostname="",
    )
    call_in_dag_processor(
        TaskCallbackRequest(
            filepath="train_yolo.py",
            bundle_name="dags",
            bundle_version=None,
            ti=instance,
            msg="Task was requeued more than 2 times and will be failed.",
            context_from_server=TIRunContext.model_validate(
                {"dag_run": run_of_dag_processor(), "max_tries": 1000}
            ),
        )
    )
    row = recorded(jobs)
    assert row.status == "failed"
    assert row.error is not None
    assert row.error.startswith("train: Airflow failed this task, and its process did not report why. Either")


def test_a_task_that_was_marked_as_success_is_named_by_the_next_one() -> None:
    sentence = (
        "Task check_dataset returned nothing, because it was marked as success by hand. Clear check_dataset"
    )
    with pytest.raises(AirflowFailException, match=sentence):
        parse_result(DatasetReference, None, "check_dataset")
    handed = {"upload_best": {"path": "s3://x"}}
    ti = SimpleNamespace(xcom_pull=lambda *, task_ids: handed.get(task_ids))
    assert result_of(cast("Any", ti), "upload_best") == {"path": "s3://x"}
    with pytest.raises(AirflowFailException, match="Task upload_last returned nothing"):
        result_of(cast("Any", ti), "upload_last")


def test_a_backend_is_not_notified_of_a_job_whose_last_pt_has_expired(
    connection: psycopg.Connection[Any],
    jobs: JobRepository,
    migrated_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever clears `notify_backend` for MLflow's sake, weeks later, must not read an error of pydantic."""
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_DB", migrated_url)
    started(jobs, epochs=3)
    assert record_checkpoints(connection) == 1
    connection.execute("UPDATE training_jobs SET last_checkpoint_path = NULL")
    connection.commit()
    job = resolved(TrainingSpec().with_defaults())
    context = context_of({}, run_id="run1")
    with pytest.raises(AirflowSkipException, match="nothing to notify"):
        notify_backend(job, context)
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_BACKEND", json.dumps({"conn_type": "http", "host": "http://b"}))
    with pytest.raises(AirflowFailException, match=r"Job a is completed, and its row names no last\.pt: the"):
        notify_backend(job, context)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (503, BackendUnavailable),
        (429, BackendUnavailable),
        (None, BackendUnavailable),
        (400, AirflowException),
    ],
)
def test_an_unavailable_backend_is_an_outage_and_a_refusal_is_not(
    status: int | None, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Backend(Handler):
        def do_POST(self) -> None:
            self.body()
            self.respond(status or 500)

    completion = TrainingCompletionCallback(
        best_checkpoint_path="s3://b/best", last_checkpoint_path="s3://b/last"
    )
    with Server(Backend) as server:
        connection = json.dumps({"conn_type": "http", "host": f"{server.url}/done"})
        monkeypatch.setenv("AIRFLOW_CONN_TRAINING_BACKEND", connection)
        if status is None:
            server.server_close()
        with pytest.raises(error) as failure:
            notify(completion)
        assert is_transient(failure.value) is (error is BackendUnavailable)


@pytest.mark.parametrize(
    ("status", "follow"), [(301, True), (302, True), (303, True), (302, False), (308, True)]
)
def test_a_backend_that_redirects_is_notified_or_the_task_fails(
    status: int, follow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[bytes] = []

    class Backend(Handler):
        def do_POST(self) -> None:
            body = self.body()
            if self.path == "/done":
                self.respond(status, headers={"Location": "/moved?secret=1"})
            else:
                received.append(body)
                self.respond(200)

        def do_GET(self) -> None:
            self.respond(200)

    completion = TrainingCompletionCallback(
        best_checkpoint_path="s3://b/best", last_checkpoint_path="s3://b/last"
    )
    with Server(Backend) as server:
        extra = {"allow_redirects": follow}
        connection = json.dumps({"conn_type": "http", "host": f"{server.url}/done", "extra": extra})
        monkeypatch.setenv("AIRFLOW_CONN_TRAINING_BACKEND", connection)
        if status == 308:
            assert notify(completion) == 200
            assert json.loads(received[0])["last_checkpoint_path"] == "s3://b/last"
            return
        with pytest.raises(AirflowException, match=r"redirected to \S*/moved, so the job was not"):
            notify(completion)
    assert not received
