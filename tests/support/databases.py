"""Databases and schemas of the session's PostgreSQL for the tests, and the repositories over them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from include.jobs.repository import JobRepository
from include.models.repository import ModelRepository
from include.registry.repository import DatasetRepository
from include.stack.postgres import TRAINING_OWNER
from tests.support import platforms

if TYPE_CHECKING:
    from include.stack.postgres import Postgres


@pytest.fixture
def database(postgres: Postgres) -> Iterator[platforms.Database]:
    """A fresh, empty database, dropped after the test."""
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 OWNER {}").format(
                sql.Identifier(name), sql.Identifier(TRAINING_OWNER)
            )
        )
    yield platforms.database(postgres, name)
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database_url(database: platforms.Database) -> str:
    """The URL of the fresh, empty database, as its owner."""
    return database.owner_url


@pytest.fixture
def training_url(database: platforms.Database) -> str:
    """The URL of the fresh database with our tables, as the role that reads and writes their rows."""
    return database.migrate()


@pytest.fixture(scope="module")
def schema(postgres: Postgres) -> Iterator[platforms.Database]:
    """A schema for all tests of a file."""
    with platforms.fresh_schema(postgres) as schema:
        yield schema


@pytest.fixture(scope="module")
def migrated_url(schema: platforms.Database) -> str:
    """The URL of that schema with our tables, as the role that reads and writes their rows."""
    return schema.migrate()


@pytest.fixture(scope="module")
def owner(schema: platforms.Database, migrated_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the file's schema, as the role that owns its tables."""
    with psycopg.connect(schema.owner_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def connection(migrated_url: str, owner: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the file's schema, whose tables are emptied after the test."""
    with psycopg.connect(migrated_url) as connection:
        yield connection
        connection.rollback()
        owner.execute(
            "TRUNCATE training_jobs, training_epochs, model_versions, checkpoint_audits, datasets, "
            "dataset_numbers, gpu_usage"
        )


@pytest.fixture
def jobs(connection: psycopg.Connection[Any]) -> JobRepository:
    """The jobs of the file's schema."""
    return JobRepository(connection)


@pytest.fixture
def datasets(connection: psycopg.Connection[Any]) -> DatasetRepository:
    """The registered datasets of the file's schema."""
    return DatasetRepository(connection)


@pytest.fixture
def models(connection: psycopg.Connection[Any]) -> ModelRepository:
    """The models of the file's schema."""
    return ModelRepository(connection)
