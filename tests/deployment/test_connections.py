"""Sessions of the training database do not depend on the settings of the database."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg
import pytest
from psycopg import sql

from include.deployment.connections import open_training_db


@pytest.mark.parametrize(
    ("setting", "changed", "read"),
    [
        ("datestyle", "German, DMY", "datestyle"),
        ("client_encoding", "LATIN1", "client_encoding"),
        ("default_transaction_isolation", "repeatable read", "transaction_isolation"),
    ],
)
def test_settings_that_a_host_application_made_for_its_database_do_not_apply(
    database_url: str, monkeypatch: pytest.MonkeyPatch, setting: str, changed: str, read: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as owner:
        shown = owner.execute(sql.SQL("SHOW {}").format(sql.Identifier(read))).fetchone()
        owner.execute(
            sql.SQL("ALTER DATABASE {} SET {} TO {}").format(
                sql.Identifier(owner.info.dbname), sql.Identifier(setting), sql.Literal(changed)
            )
        )
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_DB", database_url)
    with open_training_db() as connection:
        assert connection.execute(sql.SQL("SHOW {}").format(sql.Identifier(read))).fetchone() == shown
        [(text, moment)] = connection.execute(
            "SELECT '\u4e2d', '2026-11-30 12:00+00'::timestamptz"
        ).fetchall()
    assert (text, moment) == ("\u4e2d", datetime(2026, 11, 30, 12, tzinfo=UTC))
