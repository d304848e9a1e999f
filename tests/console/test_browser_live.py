"""A page that stays open shows what is true now: of its job, of its server, and on any computer's clock."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from playwright.sync_api import Page, expect
from psycopg.types.json import Jsonb

from include.stack.local import Stack
from tests.support.browsing import API, Visitors
from tests.support.recorded_trainings import (
    FORGOTTEN_RUN,
    finish_epoch,
    record_kinds,
    record_training,
    recording,
)

pytestmark = pytest.mark.timeout(600)

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module", autouse=True)
def recorded(api_stack: Stack) -> Iterator[psycopg.Connection[Any]]:
    with recording(api_stack, "live-") as connection:
        record_kinds(connection, "live-")
        yield connection


def _hide(page: Page) -> None:
    page.evaluate("Object.defineProperty(document, 'hidden', { configurable: true, value: true })")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def _show(page: Page) -> None:
    page.evaluate("delete document.hidden")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_epochs_that_were_repeated_while_the_page_was_hidden_are_shown_as_they_are_now(
    visit: Visitors, recorded: psycopg.Connection[Any]
) -> None:
    """The first attempt of another run that continues the job has number 1, too."""
    record_training(recorded, "live-repeats", status="running", epochs=50, finished=5, attempt=1)
    page = visit().open("job?id=live-repeats")
    page.get_by_text("Numbers", exact=True).click()
    rows = page.get_by_role("table", name="Numbers by epoch").get_by_role("row")
    expect(rows).to_have_count(6)
    _hide(page)
    recorded.execute(
        "UPDATE training_epochs SET fitness = 0.1234, recorded_at = now() "
        "WHERE job_id = 'live-repeats' AND epoch >= 3"
    )
    finish_epoch(recorded, "live-repeats", 5, 50)
    _show(page)
    expect(rows).to_have_count(7)
    expect(rows.filter(has_text="0.1234")).to_have_count(2)


def test_the_classes_of_a_job_that_trains_again_are_shown(
    visit: Visitors, recorded: psycopg.Connection[Any]
) -> None:
    record_training(recorded, "live-again", status="failed", finished=0, error="No data.", run_id="one")
    visitor = visit()
    visitor.page.clock.install()
    page = visitor.open("job?id=live-again")
    expect(page.get_by_text("Training failed")).to_be_visible()
    expect(page.get_by_role("heading", name="Pictures")).to_have_count(0)
    counted = {"name": "pedestrian", "train": 7, "val": 2, "train_images": 4, "val_images": 1}
    recorded.execute(
        "UPDATE training_jobs SET status = 'running', run_id = 'two', error = NULL, class_table = %s "
        "WHERE job_id = 'live-again'",
        [Jsonb([counted])],
    )
    page.clock.run_for(21_000)
    expect(page.get_by_text("Training failed")).to_have_count(0)
    expect(page.get_by_role("table", name="Classes").get_by_text("pedestrian")).to_be_visible()


@pytest.mark.parametrize("path", ["jobs?prefix=live-", "job?id=live-running"])
def test_a_404_of_a_proxy_is_not_taken_for_a_missing_training_run(visit: Visitors, path: str) -> None:
    """Some proxies send it while the server behind them restarts."""
    visitor = visit()
    visitor.expects(404, f"{API}/jobs")
    page = visitor.page
    page.route(f"**{API}/jobs**", lambda route: route.fulfill(status=404, body="404 page not found"))
    page.clock.install()
    visitor.open(path)
    notice = page.get_by_text("Airflow is not responding.")
    expect(notice.first).to_be_visible()
    page.unroute_all()
    page.clock.run_for(10_000)
    expect(page.get_by_text("live-running").first).to_be_visible()
    expect(notice).to_have_count(0)


@pytest.mark.parametrize(("path", "seconds"), [("jobs?prefix=live-", 70), ("job?id=live-running", 400)])
def test_a_server_that_stops_responding_is_reported(visit: Visitors, path: str, seconds: int) -> None:
    """A frozen server, or a network that has changed, ends neither a request nor a stream."""
    visitor = visit()
    visitor.page.clock.install()
    page = visitor.open(path)
    expect(page.get_by_text("live-running").first).to_be_visible()
    page.route(f"**{API}/jobs**", lambda route: None)
    with visitor.outage():
        page.clock.run_for(1000 * seconds)
        notice = page.get_by_text("Airflow is not responding.")
        expect(notice.first).to_be_visible()
        page.unroute_all()
        page.clock.run_for(10_000)
        expect(notice).to_have_count(0)


def test_ages_and_remaining_times_do_not_depend_on_the_clock_of_the_users_computer(
    visit: Visitors, recorded: psycopg.Connection[Any]
) -> None:
    record_training(
        recorded, "live-clock", status="running", epochs=100, finished=9, age=timedelta(minutes=3)
    )
    visitor = visit(apart=True)
    visitor.page.clock.install(time=datetime.now(UTC) + 3 * HOUR)
    page = visitor.open("job?id=live-clock")
    expect(page.get_by_text("about 30 min left").first).to_be_visible()
    started = page.get_by_role("definition").filter(has=page.locator("time")).first
    expect(started).to_have_text("3 min ago")


def test_the_duration_of_a_job_stands_still_while_no_attempt_reports(
    visit: Visitors, recorded: psycopg.Connection[Any]
) -> None:
    record_training(recorded, "live-lost", status="running", epochs=50, finished=2, age=HOUR, attempt=1)
    recorded.execute(
        "INSERT INTO gpu_usage (job_id, gpus, started_at, seen_at) "
        "SELECT job_id, 1, started_at, started_at + interval '40 minutes' FROM training_jobs "
        "WHERE job_id = 'live-lost'"
    )
    visitor = visit()
    visitor.page.clock.install()
    page = visitor.open("job?id=live-lost")
    duration = page.get_by_title("Time with a GPU")
    expect(duration).to_have_text(re.compile("^40 min"))
    page.clock.fast_forward("40:00")
    expect(duration).to_have_text("50 min")


def test_a_job_whose_parent_was_deleted_says_so(visit: Visitors, recorded: psycopg.Connection[Any]) -> None:
    orphan: dict[str, Any] = {"parent_job_id": "live-deleted", "resumed_epoch": 3}
    record_training(recorded, "live-orphan", **orphan)
    visitor = visit()
    visitor.expects(404, f"{API}/jobs/live-deleted")
    page = visitor.open("job?id=live-orphan")
    expect(page.get_by_text("Its parent live-deleted has been deleted.")).to_be_visible()
    expect(page.get_by_role("link", name="Compare with parent")).to_have_count(0)
    expect(page.get_by_text("has no parent")).to_have_count(0)
    expect(page.get_by_role("link", name="live-deleted")).to_have_count(0)


def test_a_comparison_that_is_updated_does_not_load_all_epochs_again(
    visit: Visitors, recorded: psycopg.Connection[Any]
) -> None:
    visitor = visit()
    page = visitor.page
    with page.expect_request("**/live-running/epochs?after=-1&*"):
        visitor.open("compare?id=live-running&id=live-failed")
    with page.expect_request("**/live-running/epochs?*") as asked:
        pass
    assert "after=5&" in asked.value.url


def test_a_run_that_airflow_no_longer_has_is_not_linked(visit: Visitors) -> None:
    page = visit().open("job?id=live-failed")
    expect(page.get_by_text("not in Airflow", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="Airflow run")).to_have_count(0)


def test_only_listed_training_runs_are_counted_for_a_comparison(
    visit: Visitors, recorded: psycopg.Connection[Any]
) -> None:
    for number in range(2):
        record_training(recorded, f"live-chosen-{number}", finished=1)
    page = visit().open("jobs?prefix=live-chosen-")
    for number in range(2):
        page.get_by_role("checkbox", name=f"Compare live-chosen-{number}").check()
    compare = page.get_by_role("button", name="Compare", exact=True)
    expect(compare).to_be_enabled()
    recorded.execute("UPDATE training_jobs SET archived_at = now() WHERE job_id = 'live-chosen-1'")
    expect(page.get_by_role("checkbox", name="Compare live-chosen-1")).to_have_count(0)
    expect(compare).to_be_disabled()


def test_a_page_whose_training_runs_are_gone_does_not_say_that_there_are_none(visit: Visitors) -> None:
    cursor = base64.urlsafe_b64encode(b'["2000-01-01", "a"]').decode()
    page = visit().open(f"jobs?cursor={quote(cursor)}")
    expect(page.get_by_role("heading", name="There are no older training runs")).to_be_visible()
    expect(page.get_by_text("Start the first training run")).to_have_count(0)


def test_the_metric_of_each_task_has_its_own_name_in_the_list(
    visit: Visitors, recorded: psycopg.Connection[Any]
) -> None:
    quality: dict[str, Any] = {
        "metrics": Jsonb({"metrics/accuracy_top1": 0.91, "metrics/accuracy_top5": 0.99})
    }
    record_training(recorded, "live-classes", spec={"task": "classify"}, **quality)
    page = visit().open("jobs?prefix=live-classes")
    table = page.get_by_role("table", name="Training runs")
    expect(table.get_by_role("cell").filter(has_text="0.910")).to_contain_text("top-1 accuracy")
    expect(table.get_by_role("columnheader", name="mAP")).to_have_count(0)


def test_a_state_that_retention_has_deleted_is_neither_called_safe_nor_resumed_from(
    visit: Visitors, recorded: psycopg.Connection[Any]
) -> None:
    gone: dict[str, Any] = {"last_checkpoint_expired_at": datetime.now(UTC), "run_id": FORGOTTEN_RUN}
    record_training(recorded, "live-expired", status="failed", finished=4, error="The disk is full.", **gone)
    page = visit().open("job?id=live-expired")
    expect(page.get_by_text("The disk is full.")).to_be_visible()
    expect(page.get_by_text("A resumed training run continues")).to_have_count(0)
    safe = page.locator("dl.facts > div").filter(has_text="Safe in S3").get_by_role("definition")
    expect(safe).to_have_text("best.pt")
