"""Two users, each in a browser: neither can change the other's training runs or data, and each sees why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Page, expect

from include.registry.repository import DatasetRepository
from include.stack.local import Stack
from tests.support.browsing import API, Visitors
from tests.support.recorded_trainings import FORGOTTEN_RUN, record_training, recording
from tests.support.registered_datasets import register

pytestmark = pytest.mark.timeout(600)

OWNER, COLLEAGUE = "user", "op"
"""Roles of two users who may both start training runs; the users are called a-user and a-op."""

REASON = (
    "This training run belongs to a-user: only a-user or a job administrator (admin) may stop, resume, "
    "archive or delete it."
)


@pytest.fixture(scope="module")
def recorded(api_stack: Stack) -> Iterator[psycopg.Connection[Any]]:
    own: dict[str, Any] = {"triggered_by": "a-user", "dag_id": "train_yolo", "run_id": FORGOTTEN_RUN}
    with recording(api_stack, "owned-") as connection:
        record_training(connection, "owned-running", status="running", epochs=50, finished=7, **own)
        record_training(connection, "owned-ended", **own)
        yield connection
        connection.execute("DELETE FROM datasets WHERE name IN ('owned-set', 'nobodys-set')")


def _is_stopping(connection: psycopg.Connection[Any]) -> bool:
    query = "SELECT stop_requested IS TRUE FROM training_jobs WHERE job_id = 'owned-running'"
    return connection.execute(query).fetchone() == (True,)


def _expect_disabled(page: Page, *names: str) -> None:
    for name in names:
        button = page.get_by_role("button", name=name, exact=True)
        expect(button).to_be_disabled()
        expect(button).to_have_accessible_description(REASON)


def test_a_colleague_cannot_stop_a_training_run_and_sees_why_but_its_owner_can(
    visit: Visitors, recorded: psycopg.Connection[Any]
) -> None:
    colleague = visit(COLLEAGUE, width=360, height=640)
    page = colleague.open("job?id=owned-running")
    expect(page.get_by_text(REASON)).to_be_visible()
    _expect_disabled(page, "Stop")
    assert (colleague.wider_than_the_screen(), colleague.barriers()) == (False, [])
    expect(page.get_by_role("link", name="Train again with changes")).to_be_visible()
    stop = f"{API}/jobs/owned-running/stop"
    colleague.expects(403, stop)
    assert colleague.ask("POST", stop) == 403  # from a script
    assert not _is_stopping(recorded)

    page = visit(OWNER).open("job?id=owned-running")
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.get_by_text(REASON)).to_have_count(0)
    page.get_by_role("button", name="Stop after this epoch").click()
    expect(page.get_by_role("button", name="Stop after this epoch")).to_have_count(0)
    assert _is_stopping(recorded)


@pytest.mark.usefixtures("recorded")
def test_a_colleague_can_neither_resume_nor_archive_nor_delete_an_ended_training_run(
    visit: Visitors,
) -> None:
    page = visit(COLLEAGUE).open("job?id=owned-ended")
    _expect_disabled(page, "Resume with more epochs", "Archive", "Delete")
    expect(page.get_by_role("link", name="Fine-tune from this")).to_be_visible()
    page = visit(COLLEAGUE).open("start?resume=owned-ended")
    expect(page.get_by_text(REASON)).to_be_visible()
    expect(page.get_by_role("button", name="Resume training")).to_have_count(0)

    page = visit().open("job?id=owned-ended")  # an administrator
    expect(page.get_by_role("link", name="Resume with more epochs")).to_be_visible()
    for name in ("Archive", "Delete"):
        expect(page.get_by_role("button", name=name, exact=True)).to_be_enabled()


def test_only_the_user_who_registered_a_version_can_delete_it(
    visit: Visitors, recorded: psycopg.Connection[Any]
) -> None:
    datasets = DatasetRepository(recorded)
    for name, person in (("owned-set", "a-user"), ("nobodys-set", None)):
        if datasets.get(name) is None:
            register(datasets, name, "a", by=person)
    colleague = visit(COLLEAGUE, width=360, height=640)
    page = colleague.open("dataset?name=owned-set&version=1")
    button = page.get_by_role("button", name="Delete", exact=True)
    expect(button).to_be_disabled()
    reason = "a-user registered this version: only a-user may delete it."
    expect(button).to_have_accessible_description(reason)
    expect(page.get_by_text(reason)).to_be_visible()
    expect(page.get_by_role("button", name="Archive", exact=True)).to_be_enabled()
    assert (colleague.wider_than_the_screen(), colleague.barriers()) == (False, [])
    for role, name in ((OWNER, "owned-set"), (COLLEAGUE, "nobodys-set")):
        page = visit(role).open(f"dataset?name={name}&version=1")
        expect(page.get_by_role("button", name="Delete", exact=True)).to_be_enabled()
