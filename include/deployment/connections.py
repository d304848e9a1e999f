"""The outside world, opened through Airflow's connections: Postgres and S3."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from include.deployment.settings import DATABASE_LIMITS, TRAINING_DB, TRAINING_S3

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from mypy_boto3_s3 import S3Client
    from psycopg import Connection

    from include.deployment.settings import Settings
    from include.s3.bucket import Bucket


_DATABASE_PATIENCE = {"connect_timeout": 10, "tcp_user_timeout": 10_000, "keepalives_idle": 60}
"""Seconds, milliseconds: how long libpq waits for a server that does not answer at all. And after how many
silent seconds it shows that it is there: an audit that reads large objects is silent for minutes."""


def training_db_factory() -> Callable[[], AbstractContextManager[Connection[Any]]]:
    """Read Airflow's connection once, and return what opens the training database without asking Airflow.

    A training outlives restarts of the API server, and records from several threads. So this does not use
    PostgresHook.get_conn, which asks the supervisor, and thereby the API server, each time. Only tokens of
    IAM authentication are requested each time, because they expire within minutes.
    """
    connect = _prepare_connecting()
    return lambda: closing(connect())


def open_training_db() -> AbstractContextManager[Connection[Any]]:
    """Open a psycopg connection to the training database, and close it at the block's end.

    Opened for each use rather than kept: a connection that idles through an epoch is one that a firewall
    drops.
    """
    return closing(connect_training_db())


def connect_training_db() -> Connection[Any]:
    """Open a psycopg connection to the training database, which is the caller's to close."""
    return _prepare_connecting()()


def _prepare_connecting() -> Callable[[], Connection[Any]]:
    """Read Airflow's connection, and return what opens one to the training database."""
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    from include.deployment.time_limited_connection import TimeLimitedConnection

    hook = PostgresHook(postgres_conn_id=TRAINING_DB)
    place = hook.connection
    extra = _DATABASE_PATIENCE | {"options": DATABASE_LIMITS} | place.extra_dejson
    login = place.login, place.password, place.port
    options = {name: value for name, value in extra.items() if name not in hook.ignored_extra_options}

    def connect() -> Connection[Any]:
        user, password, port = hook.get_iam_token(place) if extra.get("iam") else login
        return TimeLimitedConnection.connect(
            host=place.host, user=user, password=password, dbname=place.schema, port=port, **options
        )

    return connect


def s3_client(*, interactive: bool = False) -> S3Client:
    """Return a boto3 client for the endpoint of connection `training_s3`, with our time-outs and retries.

    An interactive one is for small requests that a person waits for: it gives up sooner.
    """
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    from include.s3.client import client_config, interactive_config

    config = interactive_config() if interactive else client_config()
    return S3Hook(aws_conn_id=TRAINING_S3, config=config).get_conn()


def open_bucket(settings: Settings, *, interactive: bool = False) -> Bucket:
    """Return the deployment's bucket, reached by such a client as `s3_client` returns."""
    from include.s3.bucket import Bucket

    return Bucket(s3_client(interactive=interactive), settings.bucket)


def s3_signer(endpoint_url: str | None) -> S3Client:
    """Return a boto3 client that signs links for S3 at `endpoint_url`, which this machine need not reach.

    None: the endpoint of connection `training_s3`, whose credentials sign either way. Any endpoint but
    Amazon's own has the bucket in the path, for its name has no DNS entry below that host.
    """
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from botocore.config import Config

    hook = S3Hook(aws_conn_id=TRAINING_S3)
    endpoint = endpoint_url or hook.conn_config.get_service_endpoint_url("s3")
    # Not "auto": Amazon's global endpoint redirects to the bucket's region, where the signature is invalid
    config = Config(signature_version="s3v4", s3={"addressing_style": "path" if endpoint else "virtual"})
    return hook.get_session().client("s3", endpoint_url=endpoint, config=config)
