"""The reason why a run failed is recorded in its job's row, even if the database is unavailable at first."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from include.datasets.errors import DatasetError
from include.datasets.reference import DatasetReference
from include.deployment.backend import notify
from include.deployment.retrying import BackendUnavailable, is_transient
from include.jobs.callback import TrainingCompletionCallback
from include.orchestration.failures import record_final_failure, record_task_failure
from include.orchestration.typed_task import parse_result, result_of
from tests.support.airflow_connections import context_of
from tests.support.cutting_proxy import CuttingProxy
from tests.support.http_server import Handler, Server
from tests.support.jobs import claim, recorded

if TYPE_CHECKING:
    import psycopg

    from include.jobs.repository import JobRepository


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
