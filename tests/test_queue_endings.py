"""What becomes of a job that waits for its GPU when somebody stops it, or marks or deletes its run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from include.pipeline.settings import GPU_POOL
from tests.airflow_client import Airflow, job_row, until
from tests.api_client import ask, get, token
from tests.scheduled_trainings import DAG

if TYPE_CHECKING:
    from include.stack.local import Stack

pytestmark = pytest.mark.timeout(600)

CONF = {"dataset": "digits", "model": "yolo11n", "imgsz": 32, "epochs": 1, "device": "cpu"}
WAITING = ("stopped", "marked-failed", "marked-success", "train-marked", "deleted")
SOON = 20


@pytest.fixture(scope="module")
def api(airflow_stack: Stack) -> Airflow:
    client = Airflow(airflow_stack)
    client.run("migrate_schema", {})
    return client


@pytest.fixture(scope="module")
def runs(api: Airflow, airflow_stack: Stack) -> Iterator[dict[str, str]]:
    """Run ids by the ids of jobs that wait for a GPU, in the order in which they came."""
    api.set_slots(GPU_POOL, 0)
    runs = {f"wait-{name}": api.trigger(DAG, CONF | {"job_id": f"wait-{name}"}) for name in WAITING}
    until(
        lambda: all(api.tasks(DAG, run_id).get("train") == "scheduled" for run_id in runs.values()),
        "five trainings that wait",
    )
    yield runs
    api.set_slots(GPU_POOL, 1)


def test_jobs_wait_in_the_order_in_which_they_came(airflow_stack: Stack, runs: dict[str, str]) -> None:
    viewer = token(airflow_stack, "viewer")
    shown = [get(airflow_stack, f"/jobs/{job_id}", viewer).json() for job_id in runs]
    assert [job["status"] for job in shown] == ["queued"] * len(WAITING)
    places = [job["queue"]["place"] for job in shown]
    assert places == sorted(places)
    # Nothing trains, so nobody knows when one of them starts.
    assert {job["queue"]["expected_start_at"] for job in shown} == {None}
    assert {job["duration_seconds"] for job in shown} == {None}
    listed = get(airflow_stack, "/jobs", viewer, status="queued", prefix="wait-").json()
    assert {job["job_id"] for job in listed["jobs"]} == set(runs)


def test_a_job_that_waits_is_stopped_at_once_and_its_run_ends(
    api: Airflow, airflow_stack: Stack, runs: dict[str, str]
) -> None:
    answer = ask(airflow_stack, "POST", "/jobs/wait-stopped/stop", token(airflow_stack, "admin"))
    assert (answer.status_code, answer.json()["status"]) == (202, "stopped")
    assert api.state(DAG, runs["wait-stopped"]) == "failed"
    again = ask(airflow_stack, "POST", "/jobs/wait-stopped/stop", token(airflow_stack, "admin"))
    assert again.status_code == 409
    row = job_row(airflow_stack, "wait-stopped")
    assert (row["status"], row["error"], row["started_at"]) == ("stopped", None, None)


Act = Callable[[Airflow, str], None]


def _deleted(api: Airflow, run_id: str) -> None:
    api.pause(DAG, paused=True)
    try:
        api.delete(DAG, run_id)
    finally:
        api.pause(DAG, paused=False)


BY_HAND = "The run was marked as {} by hand"


@pytest.mark.parametrize(
    ("name", "act", "said"),
    [
        ("marked-failed", lambda api, run: api.mark(DAG, run, "failed"), BY_HAND.format("failed")),
        ("marked-success", lambda api, run: api.mark(DAG, run, "success"), BY_HAND.format("success")),
        (
            "train-marked",
            lambda api, run: api.mark(DAG, run, "success", "train"),
            "Task train returned nothing, because it was marked as success by hand",
        ),
        ("deleted", _deleted, "The run was deleted in Airflow."),
    ],
)
def test_the_row_says_within_seconds_what_somebody_did_to_its_run(
    api: Airflow, airflow_stack: Stack, runs: dict[str, str], name: str, act: Act, said: str
) -> None:
    job_id = f"wait-{name}"
    act(api, runs[job_id])
    until(lambda: job_row(airflow_stack, job_id)["status"] == "failed", "the end in the row", SOON)
    row: dict[str, Any] = job_row(airflow_stack, job_id)
    assert said in row["error"]
    assert "\n" not in row["error"]
