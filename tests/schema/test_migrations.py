"""Migrating an empty database any number of times gives one schema; no downgrade loses data silently."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from include.jobs.job import RecordedEpoch, TrainingJob
from include.models.version import ModelVersion
from include.registry.version import DatasetVersion
from include.schema.current import MIGRATIONS, list_revisions, require_current
from include.schema.errors import (
    MigrationRefused,
    SchemaBehind,
    SchemaBusy,
    SchemaUnverified,
    TargetUnknown,
)
from include.schema.migrations import apply, rehearse, verify
from include.schema.session import LockTimeouts
from tests.support import host_applications
from tests.support.databases import TABLES

REVISIONS = list_revisions(MIGRATIONS)
HEAD = REVISIONS[-1]
NEXT = f"{int(HEAD) + 1:04}"
"""The name of the next revision, which does not exist yet."""


@pytest.fixture
def of_database(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection to a fresh database, for tests that need more than a schema."""
    with psycopg.connect(database_url) as connection:
        yield connection


@pytest.fixture
def in_steps(schema: host_applications.Database) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection to the file's schema, which is at the revision where the previous test ended.

    Delete the jobs after the test.
    """
    with psycopg.connect(schema.owner_url) as connection:
        yield connection
        connection.rollback()
        connection.execute("DELETE FROM training_jobs")


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """Return a copy of the revisions, to which a test can add its own."""
    return Path(shutil.copytree(MIGRATIONS, tmp_path / "migrations"))


def _version_table(connection: psycopg.Connection[Any]) -> set[str]:
    """Describe the schema after a downgrade to base: only the table with the revision is left."""
    schema = host_applications.name_of(connection)
    return {
        "relation training_schema_version",
        "column training_schema_version version_num character varying(32) t",
        "constraint training_schema_version_version_num_not_null NOT NULL version_num",
        "constraint training_schema_version_pkc PRIMARY KEY (version_num)",
        (
            f"index CREATE UNIQUE INDEX training_schema_version_pkc ON {schema}.training_schema_version "
            "USING btree (version_num)"
        ),
    }


def _plant(scripts: Path, body: str) -> None:
    (scripts / "versions" / f"{NEXT}_planted.py").write_text(
        "from pathlib import Path\nfrom alembic import op\n"
        f"revision = '{NEXT}'\ndown_revision = '{HEAD}'\nCOLUMNS = {{}}\ndef upgrade():\n    {body}\n"
    )


def test_an_empty_database_gets_every_column_of_the_design(database_url: str) -> None:
    engine = host_applications.engine(database_url)
    apply(engine)
    found = {(column.table, column.name): column.actual for column in verify(engine)}
    assert found["training_jobs", "job_id"] == "text"
    assert found["training_jobs", "best_checkpoint_path"] == "character varying(500)"
    assert found["training_jobs", "last_checkpoint_path"] == "character varying(500)"
    job = {name for table, name in found if table == "training_jobs"}
    assert job - {"class_table"} == set(TrainingJob.model_fields)  # thousands of lines: read only on demand
    assert {name for table, name in found if table == "training_epochs"} == {
        "job_id",
        *RecordedEpoch.model_fields,
    }
    assert {name for table, name in found if table == "model_versions"} == set(ModelVersion.model_fields)
    assert {name for table, name in found if table == "datasets"} == set(DatasetVersion.model_fields)
    assert {table for table, _ in found} == TABLES


def test_a_plan_shows_the_sql_and_changes_nothing(
    engine: Engine, host_connection: psycopg.Connection[Any]
) -> None:
    rehearsed = rehearse(engine)
    assert (rehearsed.current, rehearsed.target, rehearsed.revisions) == ("base", HEAD, REVISIONS)
    assert (
        "ALTER TABLE training_jobs ADD COLUMN last_checkpoint_path character varying(500);"
        in rehearsed.report
    )
    assert "ALTER TABLE training_jobs ADD COLUMN durable_epoch integer;" in rehearsed.report
    assert "CREATE TABLE training_epochs" in rehearsed.report
    assert host_applications.structure(host_connection) == set()


def test_ten_runs_have_the_same_result_as_one(
    engine: Engine, host_connection: psycopg.Connection[Any]
) -> None:
    apply(engine)
    after_one = host_applications.structure(host_connection)
    for _ in range(9):
        assert apply(engine).report == f"Schema: at {HEAD}, target {HEAD}. Nothing to do."
    assert host_applications.structure(host_connection) == after_one
    verify(engine)


def test_a_target_can_be_a_revision_or_a_number_of_steps(engine: Engine) -> None:
    assert apply(engine, "+1").target == "0001"
    assert [column.name for column in verify(engine, "0001") if column.name.startswith("last")] == []
    assert apply(engine, "0002").revisions == ("0002",)
    assert [column.name for column in verify(engine, "0002") if column.name == "durable_epoch"] == []
    assert apply(engine, "head").revisions == REVISIONS[2:]
    assert apply(engine, "-2").revisions == REVISIONS[:-3:-1]
    assert apply(engine, "base").revisions == REVISIONS[-3::-1]
    assert verify(engine, "base") == []


@pytest.mark.parametrize("target", [f"+{len(REVISIONS) + 1}", "-1", "0999", "", "heads", "0001:0002"])
def test_an_invalid_target_is_refused_with_the_valid_ones(engine: Engine, target: str) -> None:
    with pytest.raises(TargetUnknown, match=f"base.*{', '.join(REVISIONS)}"):
        rehearse(engine, target)


def test_a_downgrade_and_an_upgrade_restore_the_schema(
    engine: Engine, host_connection: psycopg.Connection[Any]
) -> None:
    apply(engine)
    migrated = host_applications.structure(host_connection)
    apply(engine, "base")
    assert host_applications.structure(host_connection) == _version_table(host_connection)
    apply(engine)
    assert host_applications.structure(host_connection) == migrated


@pytest.mark.parametrize(
    ("revision", "column", "value"),
    [
        ("0002", "last_checkpoint_path", "s3://b/last.pt"),
        ("0003", "durable_epoch", "73"),
        ("0003", "resumed_epoch", "9"),
        ("0003", "origin_run_id", "manual__1"),
        ("0003", "attempt", "2"),
        ("0003", "inexact_reason", "batch was halved"),
        ("0004", "pinned", "true"),
        ("0004", "last_checkpoint_expired_at", "2026-05-06 07:08:09+00"),
        ("0006", "origin", "external"),
        ("0006", "checkpoint_uploader", "ada"),
        ("0006", "checkpoint_finding", "best.pt is damaged"),
        ("0007", "durable_batch", "120"),
        ("0007", "lost_seconds", "12.5"),
        ("0007", "stop_after_epoch", "true"),
        ("0008", "initial_weights_sha256", "0f" * 32),
        ("0009", "queued_at", "2026-05-06 07:08:09+00"),
        ("0009", "waited_seconds", "583.5"),
        ("0009", "machine", "gpu-7"),
        ("0009", "gpu_driver", "550.54.15"),
        ("0010", "archived_at", "2026-05-06 07:08:09+00"),
        ("0011", "dataset_name", "parts"),
        ("0011", "dataset_version", "3"),
        ("0011", "dataset_fingerprint", "0f" * 32),
        ("0011", "class_table", "[]"),
        ("0013", "waits_for_quota", "true"),
    ],
)
def test_a_column_with_data_is_dropped_only_with_confirmation(
    schema: host_applications.Database,
    in_steps: psycopg.Connection[Any],
    revision: str,
    column: str,
    value: str,
) -> None:
    engine = host_applications.engine(schema.owner_url)
    apply(engine, revision)
    in_steps.execute(f"INSERT INTO training_jobs (job_id, {column}) VALUES ('a', '{value}')")
    in_steps.commit()
    before = host_applications.structure(in_steps)
    refusal = rf"{column} would lose data \(rows affected: 1\)\. Confirm with confirm_data_loss: true"
    assert column in rehearse(engine, "-1").problems[0]
    with pytest.raises(MigrationRefused, match=refusal):
        apply(engine, "-1")
    assert host_applications.structure(in_steps) == before
    assert "Confirmed: Dropping column" in rehearse(engine, "-1", confirm_data_loss=True).report
    apply(engine, "-1", confirm_data_loss=True)
    assert column not in host_applications.columns(in_steps)


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("training_jobs", "(job_id) VALUES ('a')"),
        (
            "model_versions",
            "(name, version, job_id, path, sha256, size) VALUES ('m', 1, 'a', 's3://', '', 1)",
        ),
        ("checkpoint_audits", "(run_id, finding, detail) VALUES ('run1', 'missing', 'it is gone')"),
        (
            "datasets",
            (
                "(name, version, fingerprint, source, task, train_images, val_images, size) "
                "VALUES ('parts', 1, '0f', 's3://', 'detect', 8, 2, 1)"
            ),
        ),
        ("gpu_usage", "(job_id, gpus, started_at, seen_at) VALUES ('a', 1, now(), now())"),
    ],
)
def test_a_table_with_rows_is_dropped_only_with_confirmation(
    engine: Engine, host_connection: psycopg.Connection[Any], table: str, row: str
) -> None:
    apply(engine)
    host_connection.execute(f"INSERT INTO {table} {row}")
    host_connection.commit()
    with pytest.raises(MigrationRefused, match=rf"table {table} would lose data \(rows affected: 1\)"):
        apply(engine, "base")
    verify(engine)
    apply(engine, "base", confirm_data_loss=True)
    assert host_applications.structure(host_connection) == _version_table(host_connection)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("op.execute('CREATE TABLE half (a int)'); op.execute('SELECT 1/0')", "division by zero"),
        ("op.execute('CREATE TABLE half (a int)'); op.execute('SELECT nothing')", "does not exist"),
    ],
)
def test_a_failing_revision_leaves_nothing_behind(
    engine: Engine, host_connection: psycopg.Connection[Any], scripts: Path, body: str, error: str
) -> None:
    _plant(scripts, body)
    with pytest.raises(MigrationRefused, match=error):
        apply(engine, scripts=scripts)
    assert host_applications.structure(host_connection) == set()


def test_a_failure_after_the_rehearsal_names_the_revision_that_was_reached(
    engine: Engine, host_connection: psycopg.Connection[Any], scripts: Path
) -> None:
    # A rollback does not reset the sequence: the rehearsal divides by one, the real migration by zero.
    host_connection.execute("CREATE SEQUENCE times")
    host_connection.commit()
    _plant(
        scripts, "op.execute('CREATE TABLE half (a int)'); op.execute(\"SELECT 1 / (2 - nextval('times'))\")"
    )
    with pytest.raises(MigrationRefused, match="division by zero") as refused:
        apply(engine, scripts=scripts)
    assert str(refused.value).startswith(
        f"The schema was migrated to revision {HEAD}, but no further, because:\n- PostgreSQL"
    )
    verify(engine)


def test_a_revision_with_a_bug_leaves_nothing_behind(
    engine: Engine, host_connection: psycopg.Connection[Any], scripts: Path
) -> None:
    _plant(scripts, "op.execute('CREATE TABLE half (a int)'); raise RuntimeError('a bug')")
    with pytest.raises(RuntimeError, match="a bug"):
        apply(engine, scripts=scripts)
    assert host_applications.structure(host_connection) == set()


def test_each_revision_is_one_transaction(engine: Engine, scripts: Path, tmp_path: Path) -> None:
    rehearsed = tmp_path / "rehearsed"
    _plant(
        scripts,
        f"op.execute('CREATE TABLE half (a int)'); rehearsed = Path({str(rehearsed)!r})\n"
        "    if rehearsed.exists(): raise RuntimeError('only for real')\n"
        "    rehearsed.touch()",
    )
    with pytest.raises(RuntimeError, match="only for real"):
        apply(engine, scripts=scripts)
    assert {column.table for column in verify(engine)} == TABLES
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT to_regclass('half')").scalar() is None


def test_the_host_applications_own_alembic_is_not_affected(
    engine: Engine, host_connection: psycopg.Connection[Any]
) -> None:
    host_connection.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
    host_connection.execute("INSERT INTO alembic_version VALUES ('9f3c1d2e4b5a')")
    host_connection.commit()
    apply(engine)
    verify(engine)
    apply(engine, "base")
    assert host_connection.execute("SELECT version_num FROM alembic_version").fetchall() == [
        ("9f3c1d2e4b5a",)
    ]


def test_a_table_of_the_same_name_in_a_later_schema_is_not_changed(
    database_url: str, of_database: psycopg.Connection[Any]
) -> None:
    of_database.execute("CREATE TABLE datasets (dataset_uuid varchar(36) PRIMARY KEY)")  # MLflow's
    of_database.execute("INSERT INTO datasets VALUES ('7c1a')")
    of_database.execute("CREATE SCHEMA ours")
    of_database.commit()
    before = host_applications.structure(of_database)
    engine = host_applications.engine(database_url, options="-c search_path=ours,public")
    apply(engine)
    verify(engine)
    assert of_database.execute("SELECT count(*) FROM ours.datasets").fetchone() == (0,)
    of_database.commit()
    apply(engine, "base")
    assert host_applications.structure(of_database) == before
    assert of_database.execute("SELECT dataset_uuid FROM datasets").fetchall() == [("7c1a",)]


def test_the_first_schema_of_the_search_path_is_used(
    database_url: str, of_database: psycopg.Connection[Any]
) -> None:
    of_database.execute("CREATE SCHEMA ours")
    of_database.commit()
    engine = host_applications.engine(database_url, options="-c search_path=ours,public")
    apply(engine)
    assert verify(engine)
    assert host_applications.structure(of_database) == set()
    assert of_database.execute("SELECT count(*) FROM ours.training_epochs").fetchone() == (0,)
    of_database.commit()
    apply(engine, "base")


def test_a_training_run_is_refused_with_the_revision_that_it_needs(
    engine: Engine, host_connection: psycopg.Connection[Any]
) -> None:
    with pytest.raises(SchemaBehind, match=f"no schema yet.*needs revision {HEAD}: run the Dag migrate_"):
        require_current(host_connection)
    apply(engine, "0001")
    with pytest.raises(
        SchemaBehind, match=f"revision 0001, but this code needs {HEAD}: run the Dag migrate_schema"
    ):
        require_current(host_connection)
    apply(engine)
    require_current(host_connection)


def test_a_schema_newer_than_the_code_is_not_changed(
    engine: Engine, host_connection: psycopg.Connection[Any], scripts: Path
) -> None:
    _plant(scripts, "pass")
    apply(engine, scripts=scripts)
    for ask in (rehearse, apply, verify):
        with pytest.raises(SchemaBehind, match=f"revision {NEXT}, which this code does not know"):
            ask(engine)
    with pytest.raises(SchemaBehind, match=f"revision {NEXT}, which this code does not know"):
        require_current(host_connection)


def test_a_lost_version_table_is_recreated(engine: Engine, host_connection: psycopg.Connection[Any]) -> None:
    apply(engine)
    migrated = host_applications.structure(host_connection)
    host_connection.execute("INSERT INTO training_jobs (job_id, dataset_name) VALUES ('a', 'parts')")
    host_connection.execute("DROP TABLE training_schema_version")
    host_connection.commit()
    apply(engine)
    verify(engine)
    assert host_applications.structure(host_connection) == migrated
    host_connection.execute("UPDATE training_jobs SET dataset_name = NULL")
    host_connection.commit()
    with pytest.raises(MigrationRefused, match="table training_jobs would lose"):
        apply(engine, "base")


def test_a_migration_does_not_wait_long_for_a_table_in_use(
    engine: Engine, host_application_url: str, host_connection: psycopg.Connection[Any]
) -> None:
    apply(engine)
    with psycopg.connect(host_application_url) as reader:
        reader.execute("SELECT FROM training_jobs")
        with pytest.raises(SchemaBusy, match="Another program has been using a table for more than 100ms"):
            apply(engine, "base", timeouts=LockTimeouts(table="100ms"))
    verify(engine)
    apply(engine, "base")


def test_a_migration_does_not_wait_forever_for_another(
    engine: Engine, host_connection: psycopg.Connection[Any]
) -> None:
    host_connection.execute("SELECT pg_advisory_lock(hashtextextended('training_schema_version', 0))")
    with pytest.raises(SchemaBusy, match="Another run has been migrating this database for more than 100ms"):
        apply(engine, timeouts=LockTimeouts(migration="100ms"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            "ALTER TABLE training_jobs DROP COLUMN last_checkpoint_path",
            "last_checkpoint_path .*500. is missing",
        ),
        (
            "ALTER TABLE training_jobs ALTER COLUMN error TYPE varchar(80)",
            "error has type character varying.80.",
        ),
        ("ALTER TABLE training_jobs ALTER COLUMN best_checkpoint_size TYPE integer", "size has type integer"),
        ("ALTER TABLE training_jobs DROP CONSTRAINT training_jobs_pkey", "job_id has no unique index"),
        ("DROP TABLE training_epochs", "training_epochs.metrics jsonb is missing"),
    ],
)
def test_verify_names_what_the_database_lacks(
    engine: Engine, host_connection: psycopg.Connection[Any], damage: str, message: str
) -> None:
    apply(engine)
    host_connection.execute(damage)
    host_connection.commit()
    with pytest.raises(SchemaUnverified, match=message):
        verify(engine)
