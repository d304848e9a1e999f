"""The table of an existing host application is adopted: missing columns are added, all else is unchanged."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from include.schema.errors import MigrationRefused, SchemaUnverified
from include.schema.migrations import apply, rehearse, verify
from include.stack.postgres import TRAINING_APPLICATION
from tests.support import host_applications
from tests.support.host_applications import HOST_APPLICATIONS, ROWS, HostApplication


@pytest.fixture(params=HOST_APPLICATIONS)
def host_application(
    request: pytest.FixtureRequest, host_connection: psycopg.Connection[Any]
) -> HostApplication:
    """Install each kind of host application in turn."""
    installed = HOST_APPLICATIONS[request.param]
    host_applications.install(host_connection, installed)
    return installed


@pytest.fixture
def adopted(engine: Engine, host_connection: psycopg.Connection[Any]) -> HostApplication:
    """Return a host application that numbers its rows, installed and migrated."""
    installed = HOST_APPLICATIONS["integer"]
    host_applications.install(host_connection, installed)
    apply(engine)
    return installed


def _one(connection: psycopg.Connection[Any], statement: str) -> Any:
    row = connection.execute(statement).fetchone()
    connection.commit()
    assert row is not None
    return row[0]


def test_every_row_is_unchanged_and_gets_its_key_as_job_id(
    host_application: HostApplication, engine: Engine, host_connection: psycopg.Connection[Any]
) -> None:
    columns = host_applications.columns(host_connection)
    before = host_applications.rows(host_connection, columns)
    apply(engine)
    verify(engine)
    assert host_applications.rows(host_connection, columns) == before
    named = f'SELECT count(*) FROM training_jobs WHERE job_id = "{host_application.key}"::text'
    assert _one(host_connection, named) == ROWS


def test_the_host_applications_own_objects_are_unchanged(
    host_application: HostApplication, engine: Engine, host_connection: psycopg.Connection[Any]
) -> None:
    before = host_applications.structure(host_connection)
    apply(engine)
    assert before - host_applications.structure(host_connection) == set()


def test_a_plan_for_a_host_application_changes_nothing(
    host_application: HostApplication, engine: Engine, host_connection: psycopg.Connection[Any]
) -> None:
    columns, before = host_applications.columns(host_connection), host_applications.structure(host_connection)
    rows = host_applications.rows(host_connection, columns)
    rehearsed = rehearse(engine)
    assert rehearsed.problems == ()
    assert f"fill job_id from {host_application.key}" in rehearsed.report
    assert host_applications.structure(host_connection) == before
    assert host_applications.rows(host_connection, columns) == rows


def test_rows_that_the_host_application_inserts_later_get_their_key_as_job_id(
    host_application: HostApplication, engine: Engine, host_connection: psycopg.Connection[Any]
) -> None:
    apply(engine)
    host_connection.execute(host_application.insert, {"name": "later"})
    assert _one(
        host_connection,
        f"SELECT job_id = \"{host_application.key}\"::text AND status = 'queued' AND run_id IS NULL "
        "FROM training_jobs WHERE name = 'later'",
    )
    verify(engine)


def test_ten_migrations_on_a_host_application_have_the_same_result_as_one(
    adopted: HostApplication, engine: Engine, host_connection: psycopg.Connection[Any]
) -> None:
    columns, after_one = (
        host_applications.columns(host_connection),
        host_applications.structure(host_connection),
    )
    rows = host_applications.rows(host_connection, columns)
    for _ in range(9):
        apply(engine)
    assert host_applications.structure(host_connection) == after_one
    assert host_applications.rows(host_connection, columns) == rows


def test_a_downgrade_leaves_the_host_application_as_it_was(
    host_application: HostApplication, engine: Engine, host_connection: psycopg.Connection[Any]
) -> None:
    columns, before = host_applications.columns(host_connection), host_applications.structure(host_connection)
    rows = host_applications.rows(host_connection, columns)
    apply(engine)
    apply(engine, "base")
    left = {
        line for line in host_applications.structure(host_connection) if "training_schema_version" not in line
    }
    assert left == before
    assert host_applications.rows(host_connection, columns) == rows


def test_a_later_revision_does_not_change_rows_of_trained_jobs(
    host_application: HostApplication, engine: Engine, host_connection: psycopg.Connection[Any]
) -> None:
    apply(engine, "0002")
    host_connection.execute("UPDATE training_jobs SET run_id = 'run1', epoch = 3 WHERE name LIKE '%5'")
    host_connection.commit()
    columns, before = host_applications.columns(host_connection), host_applications.structure(host_connection)
    rows = host_applications.rows(host_connection, columns)
    apply(engine)
    verify(engine)
    assert host_applications.rows(host_connection, columns) == rows
    assert _one(host_connection, "SELECT count(*) FROM training_jobs WHERE origin_run_id IS NOT NULL") == 0
    apply(engine, "0002")
    assert host_applications.structure(host_connection) == before
    assert host_applications.rows(host_connection, columns) == rows


def test_a_given_job_id_is_kept(adopted: HostApplication, host_connection: psycopg.Connection[Any]) -> None:
    host_connection.execute("INSERT INTO training_jobs (name, job_id) VALUES ('ours', 'digits-1')")
    assert _one(host_connection, "SELECT job_id FROM training_jobs WHERE name = 'ours'") == "digits-1"


def test_an_upsert_of_the_host_application_still_works(
    adopted: HostApplication, host_connection: psycopg.Connection[Any]
) -> None:
    host_connection.execute(
        "INSERT INTO training_jobs (id, name) VALUES (7, 'new name') "
        "ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name"
    )
    assert _one(host_connection, "SELECT job_id FROM training_jobs WHERE name = 'new name'") == "7"


def test_an_application_that_may_only_insert_can_still_insert(
    adopted: HostApplication, host_connection: psycopg.Connection[Any], empty: host_applications.Database
) -> None:
    schema = _one(host_connection, "SELECT current_schema()")
    host_connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO {TRAINING_APPLICATION}")
    host_connection.execute(f"GRANT INSERT ON training_jobs TO {TRAINING_APPLICATION}")
    host_connection.execute(f"GRANT USAGE ON SEQUENCE training_jobs_id_seq TO {TRAINING_APPLICATION}")
    host_connection.commit()
    with psycopg.connect(empty.url) as application:
        application.execute("INSERT INTO training_jobs (name) VALUES ('theirs')")
    assert _one(host_connection, "SELECT job_id = id::text FROM training_jobs WHERE name = 'theirs'")


def test_a_renamed_key_does_not_break_the_host_applications_inserts(
    adopted: HostApplication, host_connection: psycopg.Connection[Any]
) -> None:
    host_connection.execute("ALTER TABLE training_jobs RENAME id TO number")
    host_connection.execute("INSERT INTO training_jobs (name) VALUES ('renamed')")
    assert _one(host_connection, "SELECT job_id FROM training_jobs WHERE name = 'renamed'") is None


def test_an_adopted_table_is_never_dropped_whatever_is_confirmed(
    adopted: HostApplication, engine: Engine, host_connection: psycopg.Connection[Any]
) -> None:
    host_connection.execute(
        "UPDATE training_jobs SET last_checkpoint_path = 's3://b/last.pt', epoch = 3 WHERE id = 7"
    )
    host_connection.commit()
    with pytest.raises(MigrationRefused, match=r"last_checkpoint_path would lose data \(rows affected: 1\)"):
        apply(engine, "base")
    apply(engine, "base", confirm_data_loss=True)
    assert _one(host_connection, "SELECT count(*) FROM training_jobs") == ROWS
    assert "epoch" not in host_applications.columns(host_connection)


def test_job_ids_that_differ_from_the_keys_count_as_data(
    adopted: HostApplication, engine: Engine, host_connection: psycopg.Connection[Any]
) -> None:
    host_connection.execute("INSERT INTO training_jobs (name, job_id) VALUES ('ours', 'digits-1')")
    host_connection.commit()
    with pytest.raises(
        MigrationRefused, match=r"column training_jobs.job_id would lose data \(rows affected: 1\)"
    ):
        apply(engine, "base")


def test_a_host_application_in_another_schema_of_the_search_path_is_adopted_there(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        host_applications.install(connection, HOST_APPLICATIONS["integer"])
        connection.execute("CREATE SCHEMA ours")
        connection.commit()
        engine = host_applications.engine(database_url, options="-c search_path=ours,public")
        apply(engine)
        verify(engine)
        connection.execute("INSERT INTO public.training_jobs (name) VALUES ('later')")
        assert _one(connection, "SELECT job_id = id::text FROM public.training_jobs WHERE name = 'later'")
        assert _one(connection, "SELECT to_regclass('ours.training_jobs') IS NULL")


def test_a_mandatory_column_of_the_host_application_is_announced(
    adopted: HostApplication, engine: Engine
) -> None:
    apply(engine, "base")
    warned = "Only the host application can create rows of training_jobs, because name must be filled"
    assert any(warned in warning for warning in rehearse(engine).warnings)


@pytest.mark.parametrize("revision", ["0004", "0009"])
def test_a_migration_that_blocks_writes_to_build_indexes_is_announced(
    adopted: HostApplication, engine: Engine, host_connection: psycopg.Connection[Any], revision: str
) -> None:
    host_connection.execute(
        "INSERT INTO training_jobs (name) SELECT repeat('x', 250) FROM generate_series(1, 10000)"
    )
    host_connection.commit()
    apply(engine, revision)
    warned = "Nothing can be written to training_jobs "
    assert any(warning.startswith(warned) for warning in rehearse(engine).warnings)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("ALTER TABLE training_jobs DISABLE TRIGGER USER", "job_id of training_jobs is missing or disabled"),
        ("UPDATE training_jobs SET job_id = NULL WHERE id = 7", "1 rows of training_jobs have no job_id"),
        ("DROP INDEX training_schema_job_id", "job_id has no unique index"),
        ("ALTER TABLE training_jobs ADD CHECK (status <> 'stopped') NOT VALID", "rejects .* = stopped"),
    ],
)
def test_verify_names_what_an_adopted_table_lost(
    adopted: HostApplication,
    engine: Engine,
    host_connection: psycopg.Connection[Any],
    damage: str,
    message: str,
) -> None:
    host_connection.execute(damage)
    host_connection.commit()
    with pytest.raises(SchemaUnverified, match=message):
        verify(engine)
