from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from tests.support import host_applications


@pytest.fixture
def host_application_url(empty: host_applications.Database) -> str:
    return empty.owner_url


@pytest.fixture
def host_connection(host_application_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(host_application_url) as connection:
        yield connection


@pytest.fixture
def engine(host_application_url: str) -> Engine:
    return host_applications.engine(host_application_url)
