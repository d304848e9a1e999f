"""The content and behaviour of the pages with jobs of every kind: lists, filters, links, buttons."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import requests
from playwright.sync_api import Locator, Page, Route, expect

from include.deployment.settings import DEFAULT_BUCKET
from include.stack.local import Stack
from tests.support.api_client import log_in_over_rest
from tests.support.browsing import API, Visitors
from tests.support.recorded_trainings import (
    FORGOTTEN_RUN,
    finish_epoch,
    record_kinds,
    record_training,
    recording,
)
from tests.support.tiny_models import architecture
from tests.support.untrained import best

pytestmark = pytest.mark.timeout(600)

HOSTILE = "pages-<img src=x onerror=alert(1)>"
MANY = 60


@pytest.fixture(scope="module")
def recorded(api_stack: Stack) -> Iterator[psycopg.Connection[Any]]:
    """Jobs of every kind, and enough small ones to fill more than one page."""
    with recording(api_stack, "pages-") as connection:
        for number in range(MANY):
            age = timedelta(days=10, hours=-number)
            record_training(connection, f"pages-many-{number:02}", epochs=3, finished=1, age=age)
        record_kinds(connection, "pages-")
        record_training(connection, HOSTILE)
        yield connection


@pytest.fixture(autouse=True)
def _recorded(recorded: psycopg.Connection[Any]) -> None:
    """Record the jobs for every test in this module."""


def _rows(page: Page) -> Locator:
    table = page.get_by_role("table", name="Training runs")
    return table.get_by_role("row").filter(has=page.get_by_role("link"))


def _job_link(page: Page, job_id: str) -> Locator:
    return page.get_by_role("table", name="Training runs").get_by_role("link", name=job_id, exact=True)


def test_filters_are_in_the_address(visit: Visitors) -> None:
    page = visit().open("jobs?prefix=pages-")
    expect(_job_link(page, "pages-running")).to_be_visible()
    page.get_by_label("Status").select_option("failed")
    page.get_by_role("button", name="Filter", exact=True).click()
    expect(_job_link(page, "pages-failed")).to_be_visible()
    expect(_rows(page)).to_have_count(1)
    assert "prefix=pages-" in page.url
    assert "status=failed" in page.url
    page.reload()
    expect(_rows(page)).to_have_count(1)
    expect(page.get_by_label("Status")).to_have_value("failed")
    page.go_back()
    expect(_job_link(page, "pages-running")).to_be_visible()


@pytest.mark.parametrize(
    ("label", "value", "job_id"),
    [
        ("Job ID starts with", "pages-fa", "pages-failed"),
        ("Dataset", "s3://street-signs/2026-11.zip", "pages-failed"),
        ("Model", "yolo11s.pt", "pages-failed"),
    ],
)
def test_a_filter_finds_a_job(visit: Visitors, label: str, value: str, job_id: str) -> None:
    page = visit().open("jobs")
    page.get_by_label(label).fill(value)
    page.keyboard.press("Enter")
    expect(_rows(page)).to_have_count(1)
    expect(_job_link(page, job_id)).to_be_visible()


def test_pages_lead_to_older_jobs_and_back(visit: Visitors) -> None:
    page = visit().open("jobs?prefix=pages-")
    seen = [page.url]
    expect(_job_link(page, "pages-running")).to_be_visible()
    expect(page.get_by_role("link", name="Newer")).to_have_count(0)
    older = page.get_by_role("link", name="Older")
    for _ in range(2):
        older.click()
        page.wait_for_url(lambda url: url not in seen)
        seen.append(page.url)
        expect(_rows(page).first).to_be_visible()
    expect(_job_link(page, "pages-many-00")).to_be_visible()
    expect(older).to_have_count(0)
    page.go_back()
    expect(_job_link(page, "pages-many-00")).to_have_count(0)
    page.get_by_role("link", name="Newer").click()
    expect(_job_link(page, "pages-running")).to_be_visible()


def test_an_empty_list_explains_what_to_do(visit: Visitors) -> None:
    page = visit().open("jobs?prefix=pages-nowhere")
    expect(page.get_by_text("No training run", exact=False).first).to_be_visible()
    expect(page.get_by_role("link", name="Start a training run").first).to_be_visible()


def test_the_progress_of_a_running_job_is_updated_in_the_list_without_a_reload(
    visit: Visitors, recorded: psycopg.Connection[Any]
) -> None:
    page = visit().open("jobs?prefix=pages-running")
    bar = _rows(page).get_by_role("progressbar")
    expect(bar).to_have_attribute("aria-valuenow", "7")
    page.evaluate("window.neverReloaded = true")
    finish_epoch(recorded, "pages-running", 7, 50)
    expect(bar).to_have_attribute("aria-valuenow", "8")
    assert page.evaluate("window.neverReloaded")


def test_jobs_are_selected_in_the_list_and_compared(visit: Visitors) -> None:
    page = visit().open("jobs?prefix=pages-")
    for job_id in ("pages-child", "pages-failed"):
        page.get_by_role("checkbox", name=f"Compare {job_id}").check()
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_role("heading", level=1, name="Compare training runs")).to_be_visible()
    assert page.url.endswith(("id=pages-child&id=pages-failed", "id=pages-failed&id=pages-child"))
    differing = page.get_by_role("row").filter(has_text="lr0")
    expect(differing).to_contain_text("0.01")
    expect(differing).to_contain_text("0.002")
    expect(page.get_by_role("row").filter(has_text="imgsz")).to_have_count(0)


def test_a_failed_job_says_why(visit: Visitors) -> None:
    page = visit().open("job?id=pages-failed")
    expect(page.get_by_text("Loss of epoch 5 is not finite.")).to_be_visible()


def test_a_long_error_keeps_its_lines_and_its_list_and_can_be_copied(
    visit: Visitors, recorded: psycopg.Connection[Any]
) -> None:
    error = "The dataset has 2 problems:\n- a.jpg is damaged\n- b.txt names class 7\nSee the report."
    record_training(recorded, "pages-long-error", status="failed", finished=0, error=error)
    visitor = visit()
    page = visitor.open("job?id=pages-long-error")
    alert = page.get_by_role("alert")
    expect(alert.get_by_role("listitem")).to_have_text(["a.jpg is damaged", "b.txt names class 7"])
    expect(alert.get_by_text("See the report.", exact=True)).to_be_visible()
    visitor.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    alert.get_by_role("button", name="Copy the error").click()
    expect(alert.get_by_text("Copied").first).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == error


def test_a_job_that_failed_before_its_first_epoch_has_no_curves(visit: Visitors) -> None:
    page = visit().open("job?id=pages-long-error")
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_role("heading", name="Parameters")).to_be_visible()
    expect(page.get_by_role("heading", name="Curves")).to_have_count(0)


def test_metrics_that_are_all_zero_are_drawn_on_an_axis_of_0_to_1(visit: Visitors) -> None:
    page = visit().open("jobs")
    ranged = page.evaluate(
        "async () => { const { valueRange } = await import('/training/console/static/current/chart.js');"
        " return [valueRange(null, 0, 0), valueRange(null, 0, 0.5)]; }"
    )
    assert ranged[0] == [0, 1]
    assert ranged[1][0] == 0
    assert 0.5 <= ranged[1][1] < 1


def test_a_running_job_shows_its_stored_batch_and_the_cost_of_interruptions(
    visit: Visitors, recorded: psycopg.Connection[Any]
) -> None:
    within: dict[str, Any] = {"epoch_batch": 310, "epoch_batches": 500, "durable_batch": 250}
    within |= {"trained_seconds": 3200.0, "lost_seconds": 41.0, "attempt": 3}
    record_training(recorded, "pages-within", status="running", epochs=10, finished=2, **within)
    page = visit().open("job?id=pages-within")
    expect(page.get_by_text("epoch 2 of 10 + batch 310 of 500")).to_be_visible()
    expect(page.get_by_text("epoch 3, batch 250 of 500", exact=True)).to_be_visible()
    expect(page.get_by_text("41 s", exact=True)).to_be_visible()
    expect(page.get_by_text(re.compile(r"^8\d %$"))).to_be_visible()
    page.get_by_role("button", name="Stop", exact=True).click()
    page.get_by_role("button", name="Stop after this epoch").click()
    expect(page.get_by_text("The training run stops at the end of the current epoch.")).to_be_visible()
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.get_by_role("button", name="Stop after this epoch")).to_have_count(0)
    page.get_by_role("button", name="Stop now").click()
    expect(page.get_by_text("The training run stops after the current batch.")).to_be_visible()
    expect(page.get_by_role("button", name="Stop", exact=True)).to_have_count(0)


def test_a_job_that_is_loaded_twice_simultaneously_is_followed_by_one_stream(
    visit: Visitors, recorded: psycopg.Connection[Any]
) -> None:
    record_training(recorded, "pages-twice", status="running", epochs=10, finished=3)
    visitor = visit()
    page = visitor.page
    held: list[Route] = []

    def hold_two(route: Route) -> None:
        if len(held) < 2:
            held.append(route)
        else:
            route.continue_()

    page.add_init_script("""
        window.streams = [];
        window.EventSource = class extends EventSource {
          constructor(...given) { super(...given); window.streams.push(this); }
        };
    """)
    page.route(f"**{API}/jobs/pages-twice", hold_two)
    visitor.open("job?id=pages-twice")
    while len(held) < 1:
        page.wait_for_timeout(20)
    page.evaluate("window.dispatchEvent(new Event('online'))")
    while len(held) < 2:
        page.wait_for_timeout(20)
    held[1].continue_()
    expect(page.get_by_text("epoch 3 of 10")).to_be_visible()
    held[0].continue_()
    finish_epoch(recorded, "pages-twice", 3, 10)
    expect(page.get_by_text("epoch 4 of 10")).to_be_visible()
    assert page.evaluate("streams.filter((each) => each.readyState !== EventSource.CLOSED).length") <= 1


def test_a_page_that_was_hidden_while_its_job_started_over_does_not_show_epochs_of_the_old_training_run(
    visit: Visitors, recorded: psycopg.Connection[Any]
) -> None:
    record_training(recorded, "pages-over", status="running", finished=3, origin_run_id="old", attempt=1)
    page = visit().open("job?id=pages-over")
    page.get_by_text("Numbers", exact=True).click()
    rows = page.get_by_role("table", name="Numbers by epoch").get_by_role("row")
    expect(rows).to_have_count(4)

    page.evaluate("Object.defineProperty(document, 'hidden', { configurable: true, value: true })")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    finish_epoch(recorded, "pages-over", 3, 12)
    recorded.execute(
        "UPDATE training_epochs SET fitness = 0.1234, recorded_at = now() WHERE job_id = 'pages-over'"
    )
    recorded.execute("UPDATE training_jobs SET origin_run_id = 'new' WHERE job_id = 'pages-over'")
    page.evaluate("delete document.hidden")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(rows.filter(has_text="0.1234")).to_have_count(4)
    expect(rows).to_have_count(5)


def test_the_state_of_the_run_that_has_taken_over_a_job_is_shown(
    visit: Visitors, recorded: psycopg.Connection[Any]
) -> None:
    own: dict[str, Any] = {"dag_id": "train_yolo", "run_id": "manual__ended"}
    record_training(recorded, "pages-taken", status="running", finished=2, **own)
    states = {"manual__ended": "failed", "manual__next": "running"}

    def describe(route: Route) -> None:
        route.fulfill(json={"state": states[route.request.url.rpartition("/")[2]]})

    visitor = visit()
    visitor.page.route("**/api/v2/dags/train_yolo/dagRuns/*", describe)
    page = visitor.open("job?id=pages-taken")
    run = page.get_by_role("definition").filter(has=page.get_by_role("link", name="Airflow run"))
    expect(run).to_contain_text("failed")
    recorded.execute("UPDATE training_jobs SET run_id = 'manual__next' WHERE job_id = 'pages-taken'")
    expect(run).to_contain_text("running")


def test_a_job_that_waits_for_its_quota_can_be_cancelled(
    visit: Visitors, recorded: psycopg.Connection[Any]
) -> None:
    own: dict[str, Any] = {"dag_id": "train_yolo", "run_id": FORGOTTEN_RUN, "started_at": None}
    held = own | {"queued_at": datetime.now(UTC), "waits_for_quota": True}
    record_training(recorded, "pages-held", status="queued", finished=0, **held)
    page = visit().open("job?id=pages-held")
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.get_by_text("It is waiting for the quota and has nothing to save.")).to_be_visible()
    page.get_by_role("button", name="Keep it in the queue").click()
    expect(page.get_by_title("Time spent waiting for the quota or a GPU")).to_be_visible()


def test_an_external_job_is_marked_and_says_how_to_load_its_files_safely(
    visit: Visitors, recorded: psycopg.Connection[Any]
) -> None:
    record_training(recorded, "pages-external", origin="external", checkpoint_uploader="ada")
    page = visit().open("jobs?prefix=pages-external")
    expect(_rows(page).get_by_text("external", exact=True)).to_be_visible()
    _job_link(page, "pages-external").click()
    expect(page.get_by_text("Uploaded by ada, not trained here.")).to_be_visible()
    expect(page.get_by_text("Both files were inspected")).to_be_visible()
    page.get_by_label("best.pt", exact=True).get_by_text("How to use it").click()
    expect(
        page.get_by_text("python -m include.checkpoints.inspection 'pages-external-best.pt'")
    ).to_be_visible()
    expect(page.get_by_text("ULTRALYTICS_SAFE_LOAD=1 yolo predict")).to_be_visible()
    recorded.execute("UPDATE training_jobs SET checkpoint_finding = 'best.pt is damaged' WHERE job_id = %s",
                     ["pages-external"])  # fmt: skip
    page.reload()
    expect(page.get_by_text("The files cannot be loaded here: best.pt is damaged.")).to_be_visible()


def _end_deletion(stack: Stack, run_id: str, state: str) -> None:
    """End the Dag run in that state, because no scheduler executes it here."""
    answer = requests.patch(
        f"{stack.url}/api/v2/dags/delete_data/dagRuns/{quote(run_id, safe='')}",
        json={"state": state},
        headers={"Authorization": f"Bearer {log_in_over_rest(stack)}"},
        timeout=60,
    )
    assert answer.ok, answer.text


def test_a_user_archives_restores_and_deletes_their_own_job(
    visit: Visitors, recorded: psycopg.Connection[Any], api_stack: Stack
) -> None:
    mine: dict[str, Any] = {
        "triggered_by": api_stack.username,
        "dag_id": "train_yolo",
        "run_id": FORGOTTEN_RUN,
    }
    record_training(recorded, "pages-own", status="stopped", finished=2, **mine)
    page, jobs = visit().open("job?id=pages-own"), visit().open("jobs?prefix=pages-own")
    page.get_by_role("button", name="Archive", exact=True).click()
    expect(page.get_by_text("nothing has been deleted")).to_be_visible()
    expect(_rows(jobs)).to_have_count(0)
    jobs.get_by_label("Archive").select_option("Archived")
    jobs.get_by_role("button", name="Filter", exact=True).click()
    expect(_job_link(jobs, "pages-own")).to_be_visible()
    assert "archived=true" in jobs.url
    page.get_by_role("button", name="Unarchive").click()
    expect(page.get_by_role("button", name="Archive", exact=True)).to_be_visible()

    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Keep it").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete this training run…").click()
    expect(page.get_by_text("This cannot be undone")).to_be_visible()
    with page.expect_response(re.compile(r"jobs/pages-own\?confirm=")) as started:
        page.get_by_role("button", name="Delete permanently").click()
    expect(page.get_by_role("button", name="Deleting…")).to_be_visible()
    _end_deletion(api_stack, started.value.json()["run_id"], "failed")
    expect(page.get_by_text("The run failed, and its log says why: see run")).to_be_visible()

    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete this training run…").click()
    with page.expect_response(re.compile(r"jobs/pages-own\?confirm=")) as started:
        page.get_by_role("button", name="Delete permanently").click()
    _end_deletion(api_stack, started.value.json()["run_id"], "success")
    expect(page.get_by_role("heading", level=1, name="Training runs")).to_be_visible()


def test_a_file_of_weights_is_dropped_replaced_and_used_for_training(
    visit: Visitors, api_stack: Stack, tmp_path: Path
) -> None:
    file = best("detect", tmp_path / "pages-own.pt", architecture=architecture(tmp_path))
    visitor = visit()
    page = visitor.open("models")
    dropped = page.evaluate_handle(
        "() => { const data = new DataTransfer(); data.items.add(new File(['x'], 'text.pt')); return data; }"
    )
    place = page.get_by_text("or drop one here")
    sent: list[str] = []

    def drop_another(route: Route) -> None:
        """Drop a file while another one is being sent."""
        sent.append(route.request.url)
        if len(sent) == 1:
            place.dispatch_event("drop", {"dataTransfer": dropped})
        route.continue_()

    page.route(f"**{API}/pretrained/*.pt", drop_another)
    chosen = page.get_by_label("Weights file")
    chosen.set_input_files(file)
    stored = page.get_by_role("note").filter(has_text="pages-own.pt has been stored")
    expect(stored).to_contain_text(hashlib.sha256(file.read_bytes()).hexdigest())
    expect(page.get_by_role("table", name="Pretrained weights")).to_contain_text("pages-own.pt")
    assert len(sent) == 1

    best("detect", file, ("x", "y"), architecture=architecture(tmp_path))
    visitor.expects(409, f"{API}/pretrained/pages-own.pt")
    chosen.set_input_files(file)
    expect(page.get_by_text("is already stored with different content")).to_be_visible()
    page.get_by_role("button", name="Replace it for future jobs").click()
    expect(stored).to_contain_text(hashlib.sha256(file.read_bytes()).hexdigest())

    visitor.expects(422, f"{API}/pretrained/text.pt")
    place.dispatch_event("drop", {"dataTransfer": dropped})
    expect(page.get_by_text("text.pt is not a checkpoint")).to_be_visible()

    page.get_by_role("link", name="Train from pages-own.pt").click()
    expect(page.get_by_label("model", exact=True)).to_have_value("pages-own.pt")
    api_stack.s3.client().delete_object(Bucket=DEFAULT_BUCKET, Key="pretrained/pages-own.pt")


def test_a_viewer_sees_the_files_of_weights_and_cannot_store_any(visit: Visitors) -> None:
    page = visit("viewer").open("models")
    expect(page.get_by_role("heading", name="Pretrained weights")).to_be_visible()
    expect(page.get_by_role("button", name="Choose a .pt file")).to_have_count(0)


def test_a_signed_version_offers_the_address_of_its_signature(
    visit: Visitors, recorded: psycopg.Connection[Any]
) -> None:
    for version, signature in ((1, None), (2, "5" * 64)):
        recorded.execute(
            "INSERT INTO model_versions (name, version, job_id, path, sha256, size, signature_sha256) "
            "VALUES ('pages-signed', %s, %s, 's3://bucket/best.pt', %s, 1, %s)",
            [version, f"job-{version}", "a" * 64, signature],
        )
    table = visit("viewer").open("models").get_by_role("table", name="Versions of pages-signed")
    expect(table.get_by_role("button", name="Copy s3:// path of version")).to_have_count(2)
    expect(table.get_by_role("button", name="Copy s3:// path of the signature of version")).to_have_count(1)
    recorded.execute("DELETE FROM model_versions WHERE name = 'pages-signed'")


def test_the_reason_for_a_refused_download_is_reported(visit: Visitors) -> None:
    visitor = visit()
    visitor.expects(404, f"{API}/jobs/pages-parent/checkpoints/best")
    page = visitor.open("job?id=pages-parent")
    page.get_by_role("link", name="Download best.pt").click()
    expect(page.get_by_text("it was recorded, but is no longer in S3")).to_be_visible()


def test_markup_in_a_name_is_text(visit: Visitors) -> None:
    visitor = visit()
    page = visitor.open("jobs?prefix=pages-")
    _job_link(page, HOSTILE).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(HOSTILE)
    assert page.locator("img[src=x]").count() == 0


def test_an_unknown_job_is_reported_as_missing(visit: Visitors) -> None:
    visitor = visit()
    visitor.expects(404, f"{API}/jobs/pages-nowhere")
    page = visitor.open("job?id=pages-nowhere")
    expect(page.get_by_text("pages-nowhere").first).to_be_visible()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_role("link", name=re.compile("training runs", re.IGNORECASE)).first).to_be_visible()


def test_a_shared_link_leads_through_the_login_to_its_page(visit: Visitors, api_stack: Stack) -> None:
    visitor = visit(None)
    visitor.expects(401, "/training/console/job")
    page = visitor.open("job?id=pages-failed&x=1%262")
    page.get_by_label("Username").fill(api_stack.username)
    page.locator("input[type=password]").fill(api_stack.password)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1, name="Training pages-failed")).to_be_visible()
    assert page.url.endswith("/training/console/job?id=pages-failed&x=1%262")


def test_a_job_can_be_opened_with_only_the_keyboard(visit: Visitors) -> None:
    page = visit().open("jobs?prefix=pages-fa")
    expect(_job_link(page, "pages-failed")).to_be_visible()
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == "pages-failed":
            break
    expect(_job_link(page, "pages-failed")).to_be_focused()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline not in {"none", "hidden"}
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name="Training pages-failed")).to_be_visible()
