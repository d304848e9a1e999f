"""Existing columns of a host application with our names are used unchanged, or refused with a remedy."""

from __future__ import annotations

import re
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from include.schema.errors import MigrationRefused, SchemaBusy
from include.schema.migrations import apply, rehearse, verify
from include.schema.session import LockTimeouts
from tests.support import host_applications


@pytest.mark.parametrize("job_id", ["varchar(36) PRIMARY KEY", "text NOT NULL UNIQUE"])
def test_a_host_applications_own_job_id_column_is_used(
    engine: Engine, host_connection: psycopg.Connection[Any], job_id: str
) -> None:
    host_connection.execute(f"CREATE TABLE training_jobs (job_id {job_id})")
    host_connection.execute("INSERT INTO training_jobs VALUES ('a'), ('b')")
    host_connection.commit()
    unique = "index CREATE UNIQUE INDEX"
    indexes = {line for line in host_applications.structure(host_connection) if line.startswith(unique)}
    apply(engine)
    verify(engine)
    after = {line for line in host_applications.structure(host_connection) if line.startswith(unique)}
    assert {line for line in after if ".training_jobs " in line} == indexes


def test_a_host_applications_empty_job_ids_are_filled_and_made_unique(
    engine: Engine, host_connection: psycopg.Connection[Any]
) -> None:
    host_connection.execute("CREATE TABLE training_jobs (id int PRIMARY KEY, job_id varchar(36))")
    host_connection.execute("INSERT INTO training_jobs VALUES (1, 'given'), (2, NULL)")
    host_connection.commit()
    apply(engine)
    verify(engine)
    host_connection.execute("INSERT INTO training_jobs (id) VALUES (3)")
    named = host_connection.execute("SELECT id, job_id FROM training_jobs ORDER BY id").fetchall()
    assert named == [(1, "given"), (2, "2"), (3, "3")]
    host_connection.commit()
    apply(engine, "base", confirm_data_loss=True)
    assert host_applications.columns(host_connection) == ["id", "job_id"]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            "metrics text",
            r"training_jobs\.metrics has type text, but must be jsonb: rename it, or convert it",
        ),
        ("epoch text", r"training_jobs\.epoch has type text, but must be integer"),
        ("job_id uuid", r"training_jobs\.job_id has type uuid, but must be text"),
        (
            "best_checkpoint_path varchar(100)",
            r"has type character varying\(100\), too short .* TYPE character",
        ),
        (
            "last_checkpoint_path jsonb",
            r"last_checkpoint_path has type jsonb, but must be character varying\(500\)",
        ),
        ("durable_epoch text", r"durable_epoch has type text, but must be integer"),
        (
            "attempt int NOT NULL DEFAULT 1",
            r"attempt is NOT NULL, but stays empty while a job is queued or running",
        ),
        (
            "started_at timestamptz NOT NULL DEFAULT now()",
            r"started_at is NOT NULL, but stays empty .* ALTER COLUMN started_at DROP NOT NULL",
        ),
        (
            "status text, started_at timestamptz, CHECK (status <> 'failed' OR started_at IS NOT NULL)",
            r"CHECK training_jobs_check rejects training_jobs\.status = failed",
        ),
        ("origin_run_id varchar(100)", r"origin_run_id has type character varying\(100\), too short"),
        ("inexact_reason varchar(80)", r"inexact_reason has type character varying\(80\), too short"),
        ("best_checkpoint_size integer", r"best_checkpoint_size has type integer, but must be bigint"),
        (
            "error varchar(255)",
            r"error has type character varying\(255\), too short .* ALTER COLUMN error TYPE text",
        ),
        ("error text NOT NULL", r"training_jobs\.error is NOT NULL.*ALTER COLUMN error DROP NOT NULL"),
        ("epochs int GENERATED ALWAYS AS (id * 2) STORED", r"epochs is a generated column.*rename it"),
        ("status varchar(8)", r"status has type character varying\(8\), too short"),
        (
            "status mood",
            r"status has type mood, which rejects queued, running, stopped: ALTER TYPE mood ADD VALUE",
        ),
        (
            "status word",
            r"status has type word, which rejects queued, running, completed, stopped: change what",
        ),
        (
            "status text CHECK (status <> 'stopped')",
            r"CHECK training_jobs_status_check rejects .* = stopped: drop it",
        ),
        (
            "status text CHECK (upper(status) = ANY ('{QUEUED,RUNNING,STOPPED,FAILED,100%}'))",
            r"CHECK training_jobs_status_check rejects training_jobs\.status = completed",
        ),
        (
            "status text REFERENCES moods",
            r"Foreign key .* rejects .* = queued, running, .* insert these into moods",
        ),
    ],
)
def test_a_column_that_cannot_be_used_is_reported_and_refused_before_anything_is_changed(
    engine: Engine, host_connection: psycopg.Connection[Any], column: str, message: str
) -> None:
    host_connection.execute("CREATE TYPE mood AS ENUM ('completed', 'failed', 'happy')")
    host_connection.execute("CREATE DOMAIN word AS text CHECK (value ~ '^f')")
    host_connection.execute("CREATE TABLE moods (mood text PRIMARY KEY)")
    host_connection.execute(f"CREATE TABLE training_jobs (id int PRIMARY KEY, {column})")
    host_connection.commit()
    before = host_applications.structure(host_connection)
    assert "PROBLEM: " in rehearse(engine).report
    with pytest.raises(MigrationRefused, match=message):
        apply(engine)
    assert host_applications.structure(host_connection) == before


def test_percent_signs_in_a_host_applications_names_do_not_matter(
    engine: Engine, host_connection: psycopg.Connection[Any]
) -> None:
    host_connection.execute('CREATE TABLE "all %s" ("state %" text PRIMARY KEY)')
    host_connection.execute("""INSERT INTO "all %s" VALUES ('queued'), ('running'), ('completed'), ('failed'),
        ('stopped')""")
    host_connection.execute("""CREATE DOMAIN "0-100 %" AS int""")
    host_connection.execute("""CREATE DOMAIN "% word" AS text""")
    host_connection.execute("""CREATE TABLE training_jobs ("id %s" int PRIMARY KEY, "done %" "0-100 %",
        status "% word" REFERENCES "all %s" CHECK (status <> 'failed' OR "done %" IS NULL))""")
    host_connection.execute("INSERT INTO training_jobs VALUES (1, 50, 'running')")
    host_connection.commit()
    assert rehearse(engine).problems == ()
    apply(engine)
    verify(engine)
    assert host_connection.execute("SELECT job_id FROM training_jobs").fetchall() == [("1",)]
    host_connection.commit()
    apply(engine, "base")
    assert host_applications.columns(host_connection) == ["id %s", "done %", "status"]


def test_a_locked_list_of_values_is_not_mistaken_for_an_empty_one(
    engine: Engine, host_connection: psycopg.Connection[Any]
) -> None:
    host_connection.execute("CREATE TABLE moods (mood text PRIMARY KEY)")
    host_connection.execute(
        "INSERT INTO moods VALUES ('queued'), ('running'), ('completed'), ('failed'), ('stopped')"
    )
    host_connection.execute("CREATE TABLE training_jobs (id int PRIMARY KEY, status text REFERENCES moods)")
    host_connection.commit()
    host_connection.execute("LOCK TABLE moods IN ACCESS EXCLUSIVE MODE")
    with pytest.raises(SchemaBusy, match="Another program has been using a table for more than 50ms"):
        rehearse(engine, timeouts=LockTimeouts(table="50ms"))
    host_connection.rollback()
    assert rehearse(engine).problems == ()


@pytest.mark.parametrize(
    "column",
    [
        "status mood",
        "status varchar(20) CHECK (status IN ('queued', 'running', 'completed', 'failed', 'stopped', 'old'))",
        "status text CHECK (status <> 'completed' OR completed_at IS NOT NULL), completed_at timestamp",
        "best_checkpoint_path text",
        "best_checkpoint_path varchar(255)",
        "metrics json, spec json, epoch bigint, run_id varchar(250)",
        "durable_epoch bigint, attempt bigint, origin_run_id varchar(250) NOT NULL",
        "created_at timestamp NOT NULL DEFAULT now(), status varchar(20) NOT NULL",
    ],
)
def test_a_usable_column_of_another_type_is_kept(
    engine: Engine, host_connection: psycopg.Connection[Any], column: str
) -> None:
    host_connection.execute(
        "CREATE TYPE mood AS ENUM ('archived', 'queued', 'running', 'completed', 'failed', 'stopped')"
    )
    host_connection.execute(f"CREATE TABLE training_jobs (id int PRIMARY KEY, {column})")
    host_connection.commit()
    before = host_applications.structure(host_connection)
    apply(engine)
    verify(engine)
    assert before - host_applications.structure(host_connection) == set()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("dataset_name text", "cats"),
        ("dataset_version integer", 3),
        ("dataset_fingerprint varchar(64)", "ab12"),
        ("class_table jsonb", "[]"),
    ],
)
def test_a_column_about_the_dataset_that_holds_values_is_refused(
    engine: Engine, host_connection: psycopg.Connection[Any], column: str, value: object
) -> None:
    host_connection.execute(f"CREATE TABLE training_jobs (id int PRIMARY KEY, {column})")
    host_connection.execute("INSERT INTO training_jobs VALUES (1, %s), (2, NULL)", [value])
    host_connection.commit()
    name = column.split(maxsplit=1)[0]
    message = rf"training_jobs\.{name} holds values of another application \(rows: 1\), .*: rename it"
    assert re.search(message, rehearse(engine).report)
    with pytest.raises(MigrationRefused, match=message):
        apply(engine)
    host_connection.execute(f"ALTER TABLE training_jobs RENAME {name} TO old_{name}")
    host_connection.commit()
    apply(engine)
    verify(engine)


@pytest.mark.parametrize(
    ("create", "message"),
    [
        ("CREATE TABLE training_jobs (a int, b int, PRIMARY KEY (a, b))", "no single-column primary key"),
        ("CREATE TABLE training_jobs (a int UNIQUE)", "no single-column primary key"),
        ("CREATE TABLE training_jobs (a timestamptz PRIMARY KEY)", "no single-column primary key"),
        (
            "CREATE VIEW training_jobs AS SELECT 1 AS id",
            "training_jobs is a view, but must be an ordinary table",
        ),
        (
            "CREATE TABLE training_jobs (id int) PARTITION BY RANGE (id)",
            "training_jobs is a partitioned table",
        ),
        (
            "CREATE TABLE training_epochs (id int)",
            "A table training_epochs of another application exists, with columns id",
        ),
        (
            "CREATE TABLE model_versions (name varchar(256), version int, PRIMARY KEY (name, version))",
            "A table model_versions of another application exists, with columns name, version: rename it,",
        ),
        (
            "CREATE TABLE datasets (dataset_uuid varchar(36) PRIMARY KEY)",
            "A table datasets of another application exists, with columns dataset_uuid: rename it,",
        ),
        (
            "CREATE TABLE training_jobs AS SELECT * FROM (VALUES ('a'), ('a'), ('b')) AS jobs (job_id)",
            r"job_id contains 1 duplicate values",
        ),
    ],
)
def test_a_table_that_cannot_be_adopted_is_refused(
    engine: Engine, host_connection: psycopg.Connection[Any], create: str, message: str
) -> None:
    host_connection.execute(create)
    host_connection.commit()
    before = host_applications.structure(host_connection)
    with pytest.raises(MigrationRefused, match=message):
        apply(engine)
    assert host_applications.structure(host_connection) == before
