"""The page of a dataset shows how a registration ended, and compares versions that still exist."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import airflow_client.client as airflow
import psycopg
import pytest
from airflow_client.client.api import x_com_api
from playwright.sync_api import expect

from include.audit.deletion import DELETION_DAG
from include.orchestration.failures import REFUSAL
from include.registry.repository import DatasetRepository
from include.registry.request import REGISTER_DAG
from include.stack.local import Stack
from tests.support.airflow_client import Airflow
from tests.support.api_client import log_in_over_rest
from tests.support.browsing import Visitors
from tests.support.registered_datasets import register

pytestmark = pytest.mark.timeout(600)

NAME = "registrations"
REASON = "labels/3.txt names class 7"


@pytest.fixture(scope="module")
def registering_connection(
    api_stack_connection: psycopg.Connection[Any],
) -> Iterator[psycopg.Connection[Any]]:
    yield api_stack_connection
    api_stack_connection.execute("DELETE FROM datasets WHERE name = %s", [NAME])


def end(
    api: Airflow,
    stack: Stack,
    dag_id: str,
    task_id: str,
    conf: dict[str, Any],
    state: str,
    reason: str | None,
) -> str:
    """Create a run of the Dag that has ended in that state; `reason` is the refusal that its task sent."""
    run_id = api.trigger(dag_id, conf)
    if reason is not None:
        login = airflow.Configuration(host=stack.url, access_token=log_in_over_rest(stack))
        body = airflow.XComCreateBody(key=REFUSAL, value=reason)
        x_com_api.XComApi(airflow.ApiClient(login)).create_xcom_entry(dag_id, task_id, run_id, body)
    api.mark(dag_id, run_id, state)
    return run_id


@pytest.mark.parametrize(
    ("reason", "title"),
    [(REASON, "The dataset was refused"), (None, "The dataset could not be registered")],
    ids=["refused", "failed"],
)
def test_a_failure_is_not_called_a_refusal(
    api_stack_airflow: Airflow,
    api_stack: Stack,
    registering_connection: psycopg.Connection[Any],
    visit: Visitors,
    reason: str | None,
    title: str,
) -> None:
    conf = {"name": NAME, "source": "digits"}
    run_id = end(api_stack_airflow, api_stack, REGISTER_DAG, "check_dataset", conf, "failed", reason)
    page = visit().open(f"dataset?name={NAME}&registration={quote(run_id)}")
    expect(page.get_by_role("alert")).to_contain_text(title)
    expect(page.get_by_role("alert")).to_contain_text(reason or "its log says why")
    expect(page.get_by_role("heading", name="Try again")).to_be_visible()


@pytest.mark.parametrize(("reason", "state"), [(REASON, "refused"), (None, "failed")])
def test_a_failed_deletion_is_not_called_refused(
    api_stack_airflow: Airflow, api_stack: Stack, reason: str | None, state: str
) -> None:
    run_id = end(api_stack_airflow, api_stack, DELETION_DAG, "delete", {"job_id": "gone"}, "failed", reason)
    deletion = api_stack.api.call_training_api("GET", f"deletions/{quote(run_id)}")
    assert deletion["state"] == state
    assert (reason or "its log says why") in deletion["error"]


def test_known_content_has_no_link_to_a_version_that_the_user_may_not_read(
    api_stack_airflow: Airflow,
    api_stack: Stack,
    registering_connection: psycopg.Connection[Any],
    visit: Visitors,
) -> None:
    """To a user who may not read XComs, every run looks like this run, which has none."""
    register(DatasetRepository(registering_connection), NAME, "1")
    conf = {"name": NAME, "source": "digits"}
    run_id = end(api_stack_airflow, api_stack, REGISTER_DAG, "check_dataset", conf, "success", None)
    page = visit().open(f"dataset?name={NAME}&registration={quote(run_id)}")
    expect(page.get_by_text(f"{NAME} has this content already")).to_be_visible()
    expect(page.get_by_text("so there is no new version")).to_be_visible()
    expect(page.get_by_role("table", name="Versions")).to_be_visible()
    expect(page.get_by_role("link", name="Show version")).to_have_count(0)


def test_a_version_is_compared_with_the_newest_older_one_that_exists(
    registering_connection: psycopg.Connection[Any], visit: Visitors
) -> None:
    datasets = DatasetRepository(registering_connection)
    first, gone, newest = (register(datasets, NAME, content).version for content in "234")
    registering_connection.execute("DELETE FROM datasets WHERE name = %s AND version = %s", [NAME, gone])
    visitor = visit()
    visitor.expects(404, "/difference?base=")  # these versions have no listings to compare
    page = visitor.open(f"dataset?name={NAME}")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name=f"Version {newest}", exact=True))
    expect(row.get_by_role("link", name=f"Differences from version {first}")).to_be_visible()
    page = visitor.open(f"dataset?name={NAME}&version={newest}")
    expect(page.get_by_role("region", name=f"Differences from version {first}")).to_be_visible()
    expect(page.get_by_label("Compare with version")).to_have_value(str(first))

    registering_connection.execute("DELETE FROM datasets WHERE name = %s AND version < %s", [NAME, newest])
    page = visitor.open(f"dataset?name={NAME}&version={newest}")
    expect(page.get_by_text("There is no earlier version.")).to_be_visible()
