"""Access to the pages: on a phone, without a mouse, without sight, in dark mode, as a viewer, in outages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Page, expect
from psycopg.types.json import Jsonb

from include.stack.local import Stack
from tests.support.browsing import API, Visitors
from tests.support.recorded_trainings import record_kinds, record_training, recording

pytestmark = pytest.mark.timeout(600)

LONG = "access-" + 121 * "w"
"""The id of a job with as many characters as an id can have, and no place where the line breaks by itself."""

PAGES = {
    "jobs": ("jobs?prefix=access-", "access-running"),
    "no jobs": ("jobs?prefix=access-nowhere", "No training run"),
    "finished job": ("job?id=access-child", "access-parent"),
    "failed job": ("job?id=access-failed", "is not finite"),
    "running job": ("job?id=access-running", "Curves"),
    "compare": ("compare?id=access-parent&id=access-child", "access-child"),
    "start": ("start", "epochs"),
    "train again": ("start?from=access-child", "epochs"),
    "resume": ("start?resume=access-child", "epochs"),
    "long id": (f"job?id={LONG}", "Curves"),
    "compare long id": (f"compare?id=access-parent&id={LONG}", LONG),
    "resume long id": (f"start?resume={LONG}", "epochs"),
    "models": ("models", "Models"),
    "datasets": ("datasets", "access-parts"),
    "dataset": ("dataset?name=access-parts", "Version 2"),
    "usage": ("usage", "access-user"),
    "version": ("dataset?name=access-parts&version=2", "6 → 9"),
}
"""The path of each page, and a text that the loaded page shows."""

FORMS = ("start", "train again", "resume", "resume long id")
ACTIONS = ("Start", "Train again", "Fine-tune", "Resume", "Stop", "Upload", "Train on", "Archive", "Delete")


@pytest.fixture(scope="module", autouse=True)
def _recorded(api_stack: Stack) -> Iterator[None]:
    with recording(api_stack, "access-") as connection:
        record_kinds(connection, "access-")
        record_training(connection, LONG, epochs=12, spec={"resume_from": LONG}, parent_job_id=LONG)
        connection.execute(
            "INSERT INTO gpu_usage (job_id, triggered_by, gpus, started_at, seen_at) "
            "VALUES ('access-child', 'access-user', 1, now() - interval '9 hours', now())"
        )
        for version, instances in ((1, 6), (2, 9)):
            _record_version(connection, version, instances)
        yield
    # Over a new connection, because the first one is already closed.
    with psycopg.connect(api_stack.training_db_url) as again:
        again.execute("DELETE FROM datasets WHERE name = 'access-parts'")


def _record_version(connection: psycopg.Connection[Any], version: int, instances: int) -> None:
    counts = [
        {"name": name, "train": instances, "val": val, "train_images": 4, "val_images": val}
        for name, val in (("bolt", 2), ("a nut with a very long name " * 6, 0))
    ]
    warning = {"kind": "small", "title": "tiny boxes", "remedy": "look at them", "count": 3}
    connection.execute(
        "INSERT INTO datasets (name, version, fingerprint, source, task, train_images, val_images, size, "
        "class_table, warnings, note) "
        "VALUES ('access-parts', %s, %s, 's3://b/k/', 'detect', 8, 2, 1, %s, %s, %s)",
        [version, str(version) * 64, Jsonb(counts), Jsonb([warning]), "note " * 40],
    )


def _ready(page: Page, where: str) -> None:
    expect(page.get_by_role("main").get_by_text(PAGES[where][1]).first).to_be_visible()


@pytest.mark.parametrize("where", PAGES)
def test_a_page_is_accessible_and_fits_a_phone(visit: Visitors, where: str) -> None:
    visitor = visit(width=360, height=640)
    _ready(visitor.open(PAGES[where][0]), where)
    assert not visitor.wider_than_the_screen()
    visitor.page.set_viewport_size({"width": 1280, "height": 900})
    assert not visitor.wider_than_the_screen()
    light = visitor.barriers()
    visitor.page.emulate_media(color_scheme="dark")
    expect(visitor.page.locator("html")).to_have_class(re.compile("dark"))
    assert (light, visitor.barriers()) == ([], [])


def test_a_job_can_be_opened_with_only_the_keyboard(visit: Visitors) -> None:
    page = visit().open("jobs?prefix=access-fa")
    table = page.get_by_role("table", name="Training runs")
    link = table.get_by_role("link", name="access-failed", exact=True)
    expect(link).to_be_visible()
    for _ in range(40):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline not in {"none", "hidden"}, page.evaluate("document.activeElement.outerHTML")
        if page.evaluate("document.activeElement.textContent.trim()") == "access-failed":
            break
    expect(link).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name="Training access-failed")).to_be_visible()


@pytest.mark.parametrize("where", [name for name in PAGES if name not in FORMS])
def test_a_viewer_sees_every_page_without_buttons_to_start_or_stop(visit: Visitors, where: str) -> None:
    page = visit("viewer").open(PAGES[where][0])
    _ready(page, where)
    for action in ACTIONS:
        for role in ("button", "link"):
            expect(page.get_by_role(role, name=action)).to_have_count(0)


@pytest.mark.parametrize("where", FORMS)
def test_a_viewer_is_told_that_they_may_not_start_a_training_run(visit: Visitors, where: str) -> None:
    page = visit("viewer").open(PAGES[where][0])
    expect(page.get_by_text("You can view training runs but not start them.")).to_be_visible()
    expect(page.get_by_role("button", name="Start")).to_have_count(0)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"{API}/jobs/access-running/stop", None),
        ("/api/v2/dags/train_yolo/dagRuns", {"logical_date": None, "conf": {"epochs": 1}}),
    ],
)
def test_a_viewer_who_tries_anyway_is_refused(
    visit: Visitors, path: str, body: dict[str, object] | None
) -> None:
    visitor = visit("viewer")
    visitor.expects(403, path)
    visitor.open("jobs?prefix=access-")
    assert visitor.ask("POST", path, body) == 403


@pytest.mark.parametrize("path", ["jobs?prefix=access-", "job?id=access-running"])
def test_a_page_reports_a_network_outage_and_recovers_from_it(visit: Visitors, path: str) -> None:
    visitor = visit()
    page = visitor.open(path)
    expect(page.get_by_text("access-running").first).to_be_visible()
    notice = page.get_by_text("Airflow is not responding.")
    with visitor.outage():
        page.context.set_offline(True)
        expect(notice.first).to_be_visible()
        page.context.set_offline(False)
        expect(notice).to_have_count(0)
    expect(page.get_by_text("access-running").first).to_be_visible()


def test_a_response_that_is_cut_off_is_requested_again(visit: Visitors) -> None:
    visitor = visit()
    job = f"**{API}/jobs/access-running"
    visitor.page.route(job, lambda route: route.fulfill(body='{"job_'))
    page = visitor.open("job?id=access-running")
    notice = page.get_by_text("Airflow is not responding.")
    expect(notice).to_be_visible()
    page.unroute(job)
    page.evaluate("window.dispatchEvent(new Event('online'))")  # the page would also retry by itself
    expect(page.get_by_text("epoch 7 of 50")).to_be_visible()
    expect(notice).to_have_count(0)


def test_one_lost_response_does_not_make_an_administrator_a_viewer(visit: Visitors) -> None:
    visitor = visit(apart=True)
    visitor.page.clock.install()
    visitor.page.route("**/session", lambda route: route.abort("connectionfailed"), times=1)
    with visitor.outage():
        with visitor.page.expect_event("requestfailed"):
            page = visitor.open("jobs?prefix=access-")
        page.clock.fast_forward("01:00")
        expect(page.get_by_role("link", name="Start a training run")).to_be_visible()


@pytest.fixture
def no_database(api_stack: Stack) -> Iterator[psycopg.Connection[object]]:
    """Prevent the application's role from logging in to the training database."""
    url = api_stack.postgres.build_url("postgres")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER ROLE training_app NOLOGIN")
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'training_app'"
        )
        yield connection
        connection.execute("ALTER ROLE training_app LOGIN")


def test_a_page_reports_a_database_outage_and_recovers_from_it(
    visit: Visitors, no_database: psycopg.Connection[object]
) -> None:
    visitor = visit(apart=True)  # all pages of a context share its clock
    visitor.page.clock.install()
    with visitor.outage():
        page = visitor.open("jobs?prefix=access-")
        notice = page.get_by_text("database", exact=False)
        expect(notice).to_be_visible()
        no_database.execute("ALTER ROLE training_app LOGIN")
        page.clock.fast_forward("01:00")  # the longest pause between two attempts of the page
        expect(page.get_by_role("link", name="access-running", exact=True)).to_be_visible()
        expect(notice).to_have_count(0)
