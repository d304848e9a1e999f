"""Which role migrates, and which role gets privileges: the tasks of migrate_schema without a scheduler."""

from __future__ import annotations

import logging
from typing import Any

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException

from include.schema.request import MigrationRequest
from include.tasks.migrate_schema import apply_migration, plan_migration, verify_migration
from tests.support.airflow_connections import context_of
from tests.support.host_applications import Database

ONE_ROLE = (
    "has no connection training_db_owner, so training_db migrates: every worker could change the schema"
)


def _migrate() -> str:
    target = apply_migration(plan_migration(context_of({})))
    verify_migration(target)
    return target


def _rows(url: str) -> Any:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT count(*) FROM training_jobs").fetchone()


def test_the_owner_migrates_and_the_role_of_all_tasks_gets_its_rights(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_DB", database.url)
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_DB_OWNER", database.owner_url)
    _migrate()
    assert _rows(database.url) == (0,)
    assert ONE_ROLE not in caplog.text


def test_a_deployment_with_one_role_still_migrates_with_a_warning(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_DB", database.owner_url)
    with caplog.at_level(logging.WARNING):
        _migrate()
    assert _rows(database.owner_url) == (0,)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        _rows(database.url)
    assert ONE_ROLE in caplog.text


def test_a_worker_without_the_owner_cannot_migrate(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_DB", database.url)
    with pytest.raises(AirflowFailException, match=r"permission denied for schema public.*training_db_owner"):
        apply_migration(MigrationRequest())


def test_two_connections_to_different_tables_are_refused(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_DB", f"{database.url}?options=-csearch_path%3Dpg_catalog")
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_DB_OWNER", database.owner_url)
    with pytest.raises(AirflowFailException, match="training_db finds schema revision base"):
        _migrate()
