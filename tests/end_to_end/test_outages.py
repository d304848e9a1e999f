"""Training on the real scheduler while servers hang or are unavailable, and while people intervene."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from include.stack.local import Stack
from tests.support.airflow_client import Airflow, job_row, recorded_epochs
from tests.support.scheduled_trainings import DAG, Training, small_job, standing_still
from tests.support.stacks import process_of
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def job_conf(airflow_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the parameters of every job in this module."""
    return small_job(airflow_stack, tmp_path_factory.mktemp("model"), 40)


def test_an_api_server_that_hangs_does_not_delay_training(
    api: Airflow, airflow_stack: Stack, job_conf: dict[str, Any]
) -> None:
    training = Training(api, airflow_stack, job_conf | {"job_id": "unheard", "epochs": 8})
    training.reaches(0)
    process, server = training.process(), process_of(airflow_stack.state.path, "api-server")
    with standing_still(server, *server.children(recursive=True)):
        until(
            lambda: recorded_epochs(airflow_stack, "unheard") == [*range(8)] or not process.is_running(),
            "the last epoch: one that asks Airflow takes minutes for each",
        )
        assert process.is_running()
    assert training.ends()["status"] == "completed"


def begun(training: Training) -> int:
    """Return how many attempts of `train` have begun; each leaves a note in Airflow at its start."""
    with psycopg.connect(training.stack.postgres.build_url("airflow")) as connection:
        (number,) = connection.execute(
            "SELECT COALESCE(max((value::jsonb ->> 'attempt')::integer), 0) FROM task_state_store "
            "WHERE run_id = %s AND task_id = 'train' AND key = 'interruptions'",
            [training.run_id],
        ).fetchone() or (0,)
    return int(number)


@pytest.mark.long
def test_a_training_run_that_is_killed_three_times_without_progress_ends_with_the_likely_cause(
    api: Airflow, airflow_stack: Stack, job_conf: dict[str, Any]
) -> None:
    with psycopg.connect(airflow_stack.training_db_url) as connection:
        connection.execute(
            "INSERT INTO training_jobs (job_id, status, dag_id, run_id, origin_run_id, updated_at) "
            "VALUES ('unrecorded', 'running', %s, 'gone', 'gone', now() - interval '10 minutes')",
            [DAG],
        )
    training = Training(api, airflow_stack, job_conf | {"job_id": "killer"})
    for attempt in range(1, 4):
        process = training.process()
        until(lambda attempt=attempt: begun(training) == attempt, "the attempt", pause=0.1)  # type: ignore[misc]
        training.kill("at once", process)
    row = training.fails()
    assert row["status"] == "failed"
    assert row["error"].startswith("train: The process of this task was killed 3 times in a row")
    assert training.attempt == 4

    unrecorded = job_row(airflow_stack, "unrecorded")  # the run that owned this job could not record its end
    assert unrecorded["status"] == "failed"
    assert "Run gone ended without recording why" in unrecorded["error"]


def test_a_state_that_a_person_sets_in_airflow_is_recorded_in_the_row_and_named_by_later_tasks(
    api: Airflow, airflow_stack: Stack, job_conf: dict[str, Any]
) -> None:
    training = Training(api, airflow_stack, job_conf | {"job_id": "marked"})
    training.reaches(0)
    process = training.process()
    api.mark(DAG, training.run_id, "failed")
    until(lambda: training.row["status"] == "failed", "the mark in the row")
    assert training.row["error"].startswith("The run was marked as failed by hand. Its durable state is kept")

    until(lambda: not process.is_running(), "the end of the training")
    api.clear(DAG, training.run_id, "train")
    attempt = training.row["attempt"]
    until(lambda: (training.row["attempt"] or 0) > attempt, "the next attempt")
    assert (training.row["status"], training.row["error"]) == ("running", None)
    api.mark(DAG, training.run_id, "success", "train")
    training.fails()
    reason = "Task train returned nothing, because it was marked as success by hand"
    until(lambda: reason in training.row["error"], "the reason, which the Dag processor does not know", 30)
    for task_id in ("upload_best", "upload_last"):
        assert api.attempt(DAG, training.run_id, task_id)[1] <= 1
