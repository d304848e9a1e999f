"""Reads the jobs in the schema that a file's tests share."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from include.jobs.listing import JobListing


@pytest.fixture
def listing(connection: psycopg.Connection[Any]) -> JobListing:
    return JobListing(connection)
