"""The browser for the console tests, and a client of Airflow's own REST API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from include.stack.local import Stack
from tests.support.airflow_client import Airflow
from tests.support.browsing import open_browser


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """Yield one browser for all files in this folder, whose tests therefore cannot use asyncio."""
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def api_stack_airflow(api_stack: Stack) -> Airflow:
    """Return a client of Airflow's own REST API in `api_stack`."""
    return Airflow(api_stack)
