"""After all secrets of a stack are replaced during training, the job resumes; no old secret is accepted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import airflow_client.client as airflow
import psycopg
import pytest
import requests
from botocore.exceptions import ClientError
from cryptography.fernet import Fernet, InvalidToken

from include.stack.local import Stack
from include.stack.rotation import rotate
from include.stack.s3_identities import Role
from include.stack.steps import Steps
from tests.support.airflow_client import Airflow
from tests.support.api_client import get, log_in_over_rest
from tests.support.scheduled_trainings import Training, small_job, stored_weights
from tests.support.stacks import UNSAFE_BUT_FAST, reachable_directory

pytestmark = pytest.mark.timeout(1800)

EPOCHS = 12


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Yield a separate stack whose secrets the tests replace."""
    with reachable_directory() as directory:
        stack = Stack.at(directory, UNSAFE_BUT_FAST)
        try:
            stack.up(Steps.quiet())
            Airflow(stack).run("migrate_schema", {})
            yield stack
        finally:
            Stack.at(directory, UNSAFE_BUT_FAST).down(Steps.quiet())


def is_refused_by_postgres(stack: Stack, role: str, password: str) -> bool:
    try:
        psycopg.connect(stack.postgres.build_url("postgres", role, password)).close()
    except psycopg.OperationalError as error:
        return "password authentication failed" in str(error)
    return False


def is_refused_by_s3(before: Stack, role: Role) -> bool:
    try:
        before.s3.client(role).list_buckets()
    except ClientError as error:
        return bool(error.response["ResponseMetadata"]["HTTPStatusCode"] == 403)
    return False


def stored_password(stack: Stack, conn_id: str) -> bytes:
    """Return the encrypted password of a connection from Airflow's database."""
    with psycopg.connect(stack.postgres.build_url("airflow")) as connection:
        found = connection.execute("SELECT password FROM connection WHERE conn_id = %s", [conn_id]).fetchone()
    assert found is not None
    return str(found[0]).encode()


def test_a_job_resumes_after_every_secret_was_replaced_and_no_old_one_is_accepted(
    stack: Stack, tmp_path: Path
) -> None:
    api = Airflow(stack)
    job = small_job(stack, tmp_path, EPOCHS)
    Training(api, stack, job | {"job_id": "uninterrupted"}).ends()
    kept = airflow.ConnectionBody(connection_id="kept", conn_type="http", password="kept secret")
    api.connections.post_connection(kept)
    old_token = log_in_over_rest(stack)
    training = Training(api, stack, job | {"job_id": "rotated"})
    training.reaches(3)

    rotated = rotate(stack, Steps())

    training.api, training.stack = Airflow(rotated), rotated
    row = training.ends(900)
    assert (row["status"], row["inexact_reason"]) == ("completed", None)
    assert training.attempt > 1
    assert stored_weights(rotated, "rotated", tmp_path) == stored_weights(rotated, "uninterrupted", tmp_path)

    require_refused(rotated, stack, old_token)
    encrypted = stored_password(rotated, "kept")
    assert Fernet(rotated.credentials.airflow_fernet_key).decrypt(encrypted) == b"kept secret"
    with pytest.raises(InvalidToken):
        Fernet(stack.credentials.airflow_fernet_key).decrypt(encrypted)


def require_refused(stack: Stack, before: Stack, old_token: str) -> None:
    old = asdict(before.credentials)
    assert {name for name, value in old.items() if value == getattr(stack.credentials, name)} == {"identity"}
    passwords = {"postgres": before.postgres.password, **before.postgres.roles}
    assert len(passwords) > 3
    assert all(is_refused_by_postgres(stack, role, password) for role, password in passwords.items())
    assert all(is_refused_by_s3(before, role) for role in Role)
    login = {"username": stack.username, "password": before.password}
    assert requests.post(f"{stack.url}/auth/token", json=login, timeout=60).status_code == 401
    assert get(stack, "/jobs", old_token).json()["detail"].startswith("Invalid JWT token. Log in to Airflow")


def test_an_interrupted_rotation_is_completed_by_the_next_one(stack: Stack) -> None:
    current = Stack.at(stack.state.path, stack.postgres_settings)
    chosen = current.state.prepare_next_credentials()
    # As if a rotation had been killed between its last two steps.
    with psycopg.connect(current.postgres.build_url("postgres"), autocommit=True) as connection:
        secret = connection.pgconn.encrypt_password(
            chosen.postgres_password.encode(), b"postgres", b"scram-sha-256"
        )
        connection.execute(f"ALTER ROLE postgres PASSWORD '{secret.decode()}'")

    rotated = rotate(current, Steps.quiet())

    assert rotated.credentials == chosen
    assert rotated.is_running()
