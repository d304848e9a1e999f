"""Databases and schemas in the session's PostgreSQL for the tests, and repositories that use them."""

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
from tests.support import host_applications
from tests.support.jobs import started

if TYPE_CHECKING:
    from include.stack.local import Stack
    from include.stack.postgres import Postgres


TABLES = {
    "training_jobs",
    "training_epochs",
    "model_versions",
    "checkpoint_audits",
    "datasets",
    "dataset_numbers",
    "gpu_usage",
}
"""All tables of the schema."""


@pytest.fixture
def database(postgres: Postgres) -> Iterator[host_applications.Database]:
    """Yield a fresh, empty database; drop it after the test."""
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(postgres.build_url("postgres"), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 OWNER {}").format(
                sql.Identifier(name), sql.Identifier(TRAINING_OWNER)
            )
        )
    yield host_applications.database(postgres, name)
    with psycopg.connect(postgres.build_url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database_url(database: host_applications.Database) -> str:
    """Return the owner's URL of the fresh, empty database."""
    return database.owner_url


@pytest.fixture
def training_url(database: host_applications.Database) -> str:
    """Return the fresh database's URL for the role that reads and writes rows, after creating our tables."""
    return database.migrate()


@pytest.fixture(scope="module")
def schema(postgres: Postgres) -> Iterator[host_applications.Database]:
    """Yield a schema for all tests of a file."""
    with host_applications.fresh_schema(postgres) as schema:
        yield schema


@pytest.fixture(scope="session")
def migrated_tables(postgres: Postgres) -> str:
    """Return a dump of a migrated schema, which takes a tenth of a second to load; a migration takes half."""
    with host_applications.fresh_schema(postgres) as schema:
        schema.migrate()
        return host_applications.dump(postgres, schema)


@pytest.fixture(scope="module")
def migrated_url(schema: host_applications.Database, migrated_tables: str) -> str:
    """Return the schema's URL for the role that reads and writes rows, after creating our tables."""
    return host_applications.load(schema, migrated_tables)


@pytest.fixture(scope="module")
def owner(schema: host_applications.Database, migrated_url: str) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection to the file's schema as the role that owns the tables."""
    with psycopg.connect(schema.owner_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def connection(migrated_url: str, owner: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection to the file's schema; empty the tables after the test."""
    with psycopg.connect(migrated_url) as connection:
        yield connection
        connection.rollback()
        owner.execute("; ".join(f"DELETE FROM {table}" for table in TABLES))  # much faster than TRUNCATE


@pytest.fixture
def jobs(connection: psycopg.Connection[Any]) -> JobRepository:
    """Return the repository of jobs in the file's schema."""
    return JobRepository(connection)


@pytest.fixture
def datasets(connection: psycopg.Connection[Any]) -> DatasetRepository:
    """Return the repository of registered datasets in the file's schema."""
    return DatasetRepository(connection)


@pytest.fixture
def models(connection: psycopg.Connection[Any]) -> ModelRepository:
    """Return the repository of models in the file's schema."""
    return ModelRepository(connection)


@pytest.fixture
def empty(postgres: Postgres) -> Iterator[host_applications.Database]:
    """Yield a schema without tables."""
    with host_applications.fresh_schema(postgres) as schema:
        yield schema


@pytest.fixture(scope="module")
def api_stack_connection(api_stack: Stack) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection to the training database of `api_stack`, after migrating it."""
    host_applications.migrate(api_stack)
    with psycopg.connect(api_stack.training_db_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def running_job(api_stack_connection: psycopg.Connection[Any]) -> Iterator[JobRepository]:
    """Yield the repository of `api_stack`, in which job a is running and has finished one epoch."""
    jobs = JobRepository(api_stack_connection)
    started(jobs, epochs=1)
    yield jobs
    api_stack_connection.execute("DELETE FROM training_jobs WHERE job_id = 'a'")
    api_stack_connection.execute("DELETE FROM training_epochs WHERE job_id = 'a'")
