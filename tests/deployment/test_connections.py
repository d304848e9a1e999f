"""Connections to PostgreSQL, with our settings in every task, and to S3; endpoints that are refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from include.deployment.connections import create_s3_client, create_s3_signer, open_training_db
from include.deployment.retrying import is_transient
from include.deployment.settings import SettingRefused
from include.orchestration.training_sql import TrainingSqlOperator
from tests.support.http_server import Handler, Server


@pytest.mark.parametrize(
    ("setting", "changed", "read"),
    [
        ("datestyle", "German, DMY", "datestyle"),
        ("client_encoding", "LATIN1", "client_encoding"),
        ("default_transaction_isolation", "repeatable read", "transaction_isolation"),
        ("idle_session_timeout", "5min", "idle_session_timeout"),
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


def test_record_checkpoints_has_the_time_outs_although_the_connection_has_options_of_its_own(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = conninfo_to_dict(database_url)
    connection = {"conn_type": "postgres", "schema": given["dbname"], "extra": {"options": "-c work_mem=5MB"}}
    connection |= {"host": given["host"], "port": given["port"]}
    connection |= {"login": given["user"], "password": given.get("password")}
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_DB", json.dumps(connection))
    operator = TrainingSqlOperator(
        task_id="record",
        sql="SELECT name, current_setting(name) FROM unnest(%(names)s::text[]) AS name",
        parameters={"names": ["lock_timeout", "statement_timeout", "work_mem"]},
        handler=lambda cursor: cursor.fetchall(),
    )
    shown = operator.execute({})  # type: ignore[no-untyped-call]
    assert dict(shown) == {"lock_timeout": "5s", "statement_timeout": "10s", "work_mem": "5MB"}


def test_an_outage_of_what_issues_iam_tokens_counts_as_one_of_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "config"
    settings.write_text("[default]\nregion = eu-central-1\ncredential_process = false\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(settings))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", "aws://")
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_DB", "postgresql://role@db.invalid:5432/training?iam=true")
    with (
        pytest.raises(psycopg.OperationalError, match="No IAM token for connection training_db") as raised,
        open_training_db(),
    ):
        pass
    assert is_transient(raised.value)


def test_an_endpoint_without_a_scheme_is_refused_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    minio = '{"conn_type": "aws", "login": "k", "password": "s", "extra": {"endpoint_url": "minio:9000"}}'
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_S3", minio)
    named = r"^extra.endpoint_url of connection training_s3 is not a URL .* \(Invalid endpoint: minio:9000\)"
    with pytest.raises(SettingRefused, match=named):
        create_s3_client()
    with pytest.raises(SettingRefused, match=named):
        create_s3_signer(None)
    with pytest.raises(SettingRefused, match=r"^S3_PUBLIC_ENDPOINT_URL is not a URL"):
        create_s3_signer("minio:9000")


def test_a_region_that_is_none_is_refused_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = '{"conn_type": "aws", "login": "k", "password": "s", "extra": {"region_name": "eu central"}}'
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_S3", wrong)
    with pytest.raises(SettingRefused, match=r"^extra.region_name of connection training_s3 is not a region"):
        create_s3_client()


def test_a_metadata_service_that_fails_twice_still_returns_the_keys_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"AccessKeyId": "k", "SecretAccessKey": "s", "Token": "t", "Expiration": "2100-01-01T00:00:00Z"}
    answers = {"security-credentials/": "role", "security-credentials/role": json.dumps(keys)}
    asked = []

    class Metadata(Handler):
        def do_PUT(self) -> None:
            self.respond(403)  # an old service, which issues no tokens

        def do_GET(self) -> None:
            asked.append(self.path)
            content = answers[self.path.partition("/iam/")[2]]
            self.respond(*((503, b"") if len(asked) < 3 else (200, content.encode())))

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    with Server(Metadata) as server:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.url)
        monkeypatch.setenv("AIRFLOW_CONN_TRAINING_S3", '{"conn_type": "aws", "extra": {"region_name": "x"}}')
        for place in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            monkeypatch.setenv(place, str(tmp_path / "none"))
        link = create_s3_client().generate_presigned_url("list_buckets")
    assert "X-Amz-Security-Token=t" in link or "SecurityToken=t" in link
