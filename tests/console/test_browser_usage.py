"""The page of GPU hours, in a real browser: the hours of each user, and links to their training runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect

from include.jobs.usage import WEEK, start_of_week
from include.stack.local import Stack
from tests.support.browsing import Visitors
from tests.support.recorded_trainings import record_training, recording

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", autouse=True)
def _recorded(api_stack: Stack) -> Iterator[None]:
    last_week = start_of_week(datetime.now(UTC)) - WEEK
    with recording(api_stack, "usage-") as connection:
        record_training(connection, "usage-kept", triggered_by="usage-ada")
        for job_id, hours in (("usage-kept", 2.5), ("usage-gone", 40)):
            connection.execute(
                "INSERT INTO gpu_usage (job_id, triggered_by, gpus, started_at, seen_at) "
                "VALUES (%s, 'usage-ada', 1, %s, %s)",
                [job_id, last_week, last_week + timedelta(hours=hours)],
            )
        yield


def test_the_table_of_gpu_hours_links_to_the_training_run(visit: Visitors) -> None:
    page = visit("viewer").open("jobs")
    page.get_by_role("navigation", name="Console").get_by_role("link", name="GPU hours").click()
    row = page.get_by_role("table", name="GPU hours").get_by_role("row").filter(has_text="usage-ada")
    expect(row.get_by_role("cell").last).to_have_text("42.5")
    row.get_by_role("link", name="42.5 GPU hours of usage-ada").click()
    jobs = page.get_by_role("table", name="Training runs of usage-ada")
    expect(jobs.get_by_role("row").nth(1)).to_contain_text("usage-gone")
    expect(jobs.get_by_role("row").nth(1)).to_contain_text("deleted")
    expect(jobs.get_by_role("row").nth(2)).to_contain_text("completed")
    jobs.get_by_role("link", name="usage-kept").click()
    expect(page.get_by_role("heading", level=1, name="Training usage-kept")).to_be_visible()
