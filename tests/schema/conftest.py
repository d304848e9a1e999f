from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from include.stack.postgres import Postgres
from tests.support import platforms


@pytest.fixture
def empty(postgres: Postgres) -> Iterator[platforms.Database]:
    with platforms.fresh_schema(postgres) as schema:
        yield schema


@pytest.fixture
def platform_url(empty: platforms.Database) -> str:
    return empty.owner_url


@pytest.fixture
def connection(platform_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(platform_url) as connection:
        yield connection


@pytest.fixture
def engine(platform_url: str) -> Engine:
    return platforms.engine(platform_url)
