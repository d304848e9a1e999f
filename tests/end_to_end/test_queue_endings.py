"""Jobs that wait for a GPU: their places in the queue, and the events that end the wait."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from include.deployment.settings import GPU_POOL
from tests.support.airflow_client import Airflow, job_row
from tests.support.api_client import ask, get, log_in_over_rest, token
from tests.support.scheduled_trainings import DAG, small_job
from tests.support.tiny_models import architecture
from tests.support.untrained import best
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from include.stack.local import Stack
    from tests.support.browsing import Visitors
    from tests.support.release_server import Release

pytestmark = pytest.mark.timeout(600)

CONF = {"dataset": "digits", "model": "yolo11n", "imgsz": 32, "epochs": 1, "device": "cpu"}
WAITING = ("first", "cancelled", "stopped", "marked-failed", "marked-success", "train-marked", "deleted")
SOON = 120
WEIGHTS = "yolov5nu.pt"
"""Weights published by Ultralytics that no other test uses."""


@pytest.fixture(scope="module")
def runs(api: Airflow, airflow_stack: Stack) -> Iterator[dict[str, str]]:
    """Yield the run ids of jobs that wait for a GPU, by job id, in the order in which they were triggered."""
    api.set_slots(GPU_POOL, 0)
    runs = {f"wait-{name}": api.trigger(DAG, CONF | {"job_id": f"wait-{name}"}) for name in WAITING}
    until(
        lambda: all(api.tasks(DAG, run_id).get("train") == "scheduled" for run_id in runs.values()),
        "training runs that wait",
    )
    yield runs
    _fail_queued(api, airflow_stack, runs)
    api.set_slots(GPU_POOL, 1)


def _fail_queued(api: Airflow, stack: Stack, runs: dict[str, str]) -> None:
    """Mark the runs of all jobs that still wait as failed."""
    for job_id, run_id in runs.items():
        if job_row(stack, job_id)["status"] == "queued":
            api.mark(DAG, run_id, "failed")


def test_jobs_wait_in_the_order_in_which_they_were_triggered(
    airflow_stack: Stack, runs: dict[str, str]
) -> None:
    viewer = token(airflow_stack, "viewer")
    shown = [get(airflow_stack, f"/jobs/{job_id}", viewer).json() for job_id in runs]
    assert [job["status"] for job in shown] == ["queued"] * len(WAITING)
    places = [job["queue"]["place"] for job in shown]
    assert places == sorted(places)
    # No job is running, so no start can be predicted.
    assert {job["queue"]["expected_start_at"] for job in shown} == {None}
    assert {job["duration_seconds"] for job in shown} == {None}
    listed = get(airflow_stack, "/jobs", viewer, status="queued", prefix="wait-").json()
    assert {job["job_id"] for job in listed["jobs"]} == set(runs)


def test_a_job_that_waits_is_stopped_immediately_and_its_run_ends(
    api: Airflow, airflow_stack: Stack, runs: dict[str, str]
) -> None:
    owner = log_in_over_rest(airflow_stack)
    answer = ask(airflow_stack, "POST", "/jobs/wait-stopped/stop", owner)
    assert (answer.status_code, answer.json()["status"]) == (202, "stopped")
    assert api.state(DAG, runs["wait-stopped"]) == "failed"
    again = ask(airflow_stack, "POST", "/jobs/wait-stopped/stop", owner)
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
    ("name", "act", "message"),
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
def test_the_row_names_an_intervention_in_its_run_within_seconds(
    api: Airflow, airflow_stack: Stack, runs: dict[str, str], name: str, act: Act, message: str
) -> None:
    job_id = f"wait-{name}"
    act(api, runs[job_id])
    until(lambda: job_row(airflow_stack, job_id)["status"] == "failed", "the end in the row", SOON)
    row: dict[str, Any] = job_row(airflow_stack, job_id)
    assert message in row["error"]
    assert "\n" not in row["error"]


@pytest.mark.long
def test_fine_tuning_is_queued_behind_others_and_followed_to_its_end(
    visit: Visitors,
    api: Airflow,
    airflow_stack: Stack,
    published: Release,
    runs: dict[str, str],
    tmp_path: Path,
) -> None:
    published.files[WEIGHTS] = best(
        "detect", tmp_path / WEIGHTS, architecture=architecture(tmp_path)
    ).read_bytes()
    small = small_job(airflow_stack, tmp_path, 2) | {"model": WEIGHTS}
    page = visit().open("start")
    for name in ("model", "epochs", "imgsz"):
        page.get_by_label(name, exact=True).fill(str(small[name]))
    page.get_by_text("Advanced", exact=True).click()
    page.get_by_label("job_id", exact=True).fill("wait-started")
    page.get_by_label("batch", exact=True).fill(str(small["batch"]))
    page.get_by_label("overrides", exact=True).fill('{"fraction": 0.15, "plots": false}')
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("heading", level=1, name="Training wait-started")).to_be_visible(timeout=120_000)
    queue = page.get_by_text(re.compile(r"This job is number \d+ in the queue of \d+ jobs\."))
    expect(queue).to_be_visible()
    place = int(re.findall(r"\d+", queue.inner_text())[0])
    expect(page.get_by_text("The start time cannot be estimated yet")).to_be_visible()

    other = visit().open("job?id=wait-cancelled")
    other.get_by_role("button", name="Cancel", exact=True).click()
    other.get_by_role("button", name="Cancel this training run").click()
    expect(other.get_by_text("stopped", exact=True).first).to_be_visible()
    until(lambda: api.state(DAG, runs["wait-cancelled"]) == "failed", "the end of the run", SOON)
    expect(page.get_by_text(f"This job is number {place - 1} in the queue")).to_be_visible()

    _fail_queued(api, airflow_stack, runs)
    expect(page.get_by_text("This job is next in the queue.")).to_be_visible()
    api.set_slots(GPU_POOL, 1)
    bar = page.get_by_role("progressbar", name="Progress", exact=True)
    expect(bar).to_have_attribute("aria-valuenow", "2", timeout=180_000)
    expect(page.get_by_role("link", name="Resume with more epochs")).to_be_visible(timeout=120_000)
    row = job_row(airflow_stack, "wait-started")
    assert (row["status"], job_row(airflow_stack, "wait-cancelled")["status"]) == ("completed", "stopped")
    assert row["waited_seconds"] > 1
    assert row["initial_weights_path"].endswith(f"/pretrained/{WEIGHTS}")
    assert row["initial_weights_sha256"] == hashlib.sha256(published.files[WEIGHTS]).hexdigest()
    assert [path for path in published.requested if path.endswith(WEIGHTS)] == [f"/v8.4.0/{WEIGHTS}"]
    assert row["queued_at"] < row["started_at"]
