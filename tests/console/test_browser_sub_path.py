"""The console when Airflow is served below a path of a host, behind a reverse proxy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from playwright.sync_api import expect

from include.deployment.settings import DEFAULT_BUCKET
from include.stack.local import Stack
from tests.support.browsing import Visitors, log_in
from tests.support.recorded_trainings import finish_epoch, record_kinds, recording
from tests.support.sub_path import airflow_below

pytestmark = [pytest.mark.timeout(600), pytest.mark.long]


@pytest.fixture(scope="module")
def below(api_stack: Stack) -> Iterator[str]:
    with airflow_below(api_stack, "/team/airflow") as url:
        yield url


@pytest.fixture(scope="module")
def recorded(api_stack: Stack) -> Iterator[psycopg.Connection[Any]]:
    with recording(api_stack, "below-") as connection:
        record_kinds(connection, "below-")
        # without a hash, as a host application records checkpoints of its own training runs
        connection.execute(
            "UPDATE training_jobs SET best_checkpoint_sha256 = NULL WHERE job_id = 'below-child'"
        )
        yield connection


def test_the_console_works_below_a_path(
    visit: Visitors,
    api_stack: Stack,
    below: str,
    recorded: psycopg.Connection[Any],
    tmp_path: Path,
) -> None:
    api_stack.s3.client().put_object(
        Bucket=DEFAULT_BUCKET, Key="checkpoints/below-child/best.pt", Body=b"weights"
    )
    visitor = visit(None, url=below)
    log_in(visitor, api_stack)
    visitor.page.get_by_role("link", name="Training runs").click()
    frame = visitor.frame
    frame.get_by_role("link", name="below-running", exact=True).click()
    bar = frame.get_by_role("progressbar", name="Progress", exact=True)
    expect(bar).to_have_attribute("aria-valuenow", "7")
    finish_epoch(recorded, "below-running", 7, 50)
    expect(bar).to_have_attribute("aria-valuenow", "8")

    frame = visitor.open_in_airflow("job?id=below-child")
    link = frame.get_by_role("link", name="Download best.pt")
    assert visitor.download(link, tmp_path).read_bytes() == b"weights"
    frame.get_by_role("region", name="Lineage").get_by_role("link", name="below-parent", exact=True).click()
    expect(frame.get_by_role("heading", level=1, name="Training below-parent")).to_be_visible()
    visitor.page.wait_for_url(f"{below}/plugin/trainings/**/job?id=below-parent")
    frame.get_by_role("link", name="Train again with changes").click()
    expect(frame.get_by_label("epochs", exact=True)).to_have_value("12")


def test_no_request_leaves_the_path(
    visit: Visitors, api_stack: Stack, below: str, recorded: psycopg.Connection[Any]
) -> None:
    visitor = visit(None, url=below)
    log_in(visitor, api_stack)
    urls: list[str] = []
    visitor.page.on("request", lambda request: urls.append(request.url))
    for page in ("jobs", "job?id=below-child", "compare?id=below-child&id=below-parent", "start", "models"):
        expect(visitor.open_in_airflow(page).get_by_role("heading", level=1)).to_be_visible()
    assert [url for url in urls if not url.startswith((f"{below}/", "blob:", "data:"))] == []
