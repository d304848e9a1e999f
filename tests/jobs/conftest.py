"""A listing of the jobs in the schema that the tests of a file share."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from include.jobs.listing import JobListing


@pytest.fixture
def listing(connection: psycopg.Connection[Any]) -> JobListing:
    return JobListing(connection)
