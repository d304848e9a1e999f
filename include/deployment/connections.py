"""Connects to Postgres and S3 with the settings of Airflow's connections."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from include.deployment.lookup import look_up
from include.deployment.settings import (
    DATABASE_OPTIONS,
    MAINTENANCE_QUEUE,
    TRAINING_DB,
    TRAINING_S3,
    TRAINING_S3_MAINTENANCE,
    SettingRefused,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from airflow.providers.postgres.hooks.postgres import PostgresHook
    from airflow.sdk import Connection as AirflowConnection
    from mypy_boto3_s3 import S3Client
    from psycopg import Connection

    from include.database import OpenDatabase
    from include.deployment.settings import Settings
    from include.s3.bucket import Bucket


_DATABASE_TIMEOUTS = {"connect_timeout": 10, "tcp_user_timeout": 10_000, "keepalives_idle": 60}
"""`connect_timeout` (seconds) and `tcp_user_timeout` (milliseconds) limit the wait for a server that does not
respond. After `keepalives_idle` seconds without traffic, the kernel sends a keepalive. Without it, a firewall
might drop the connection of an audit, which sends no query for minutes while it reads large objects."""


def prepare_training_db() -> OpenDatabase:
    """Read Airflow's connection once; return a function that connects to the database without Airflow.

    A training run outlives restarts of the API server, and writes rows from several threads.
    PostgresHook.get_conn would ask the supervisor, and thereby the API server, for every connection. Only
    tokens for IAM authentication are requested each time, because they expire within minutes.
    """
    connect = _prepare_connecting()
    return lambda: closing(connect())


def open_training_db() -> AbstractContextManager[Connection[Any]]:
    """Open a psycopg connection to the training database, and close it at the block's end.

    Each use opens a new connection, because a firewall may drop a connection that is idle for a whole epoch.
    """
    return closing(connect_training_db())


def connect_training_db() -> Connection[Any]:
    """Open a psycopg connection to the training database; the caller has to close it."""
    return _prepare_connecting()()


def _prepare_connecting() -> Callable[[], Connection[Any]]:
    """Read Airflow's connection, and return a function that connects to the training database."""
    from airflow.providers.postgres.hooks.postgres import PostgresHook
    from psycopg import IsolationLevel

    from include.time_limited_connection import TimeLimitedConnection

    hook = PostgresHook(postgres_conn_id=TRAINING_DB)
    settings = look_up(TRAINING_DB)
    extra = _DATABASE_TIMEOUTS | settings.extra_dejson
    # Ours also apply if the connection sets other options, such as a search_path. Without a lock_timeout, the
    # server keeps every session that waits for a lock, long after its client has given up.
    extra["options"] = f"{DATABASE_OPTIONS} {extra.get('options', '')}"
    login = settings.login, settings.password, settings.port
    options = {name: value for name, value in extra.items() if name not in hook.ignored_extra_options}

    def connect() -> Connection[Any]:
        user, password, port = _request_token(hook, settings) if extra.get("iam") else login
        connection = TimeLimitedConnection.connect(
            host=settings.host, user=user, password=password, dbname=settings.schema, port=port, **options
        )
        # A host application may have chosen another level, but a transaction that has waited for a lock must
        # see what the lock's holder has committed.
        connection.isolation_level = IsolationLevel.READ_COMMITTED
        return connection

    return connect


def _request_token(hook: PostgresHook, settings: AirflowConnection) -> tuple[str, str, int]:
    """Request a token for IAM authentication; return the user, the token and the port.

    Raises OperationalError, as for a password that PostgreSQL refuses: a retry may succeed.
    """
    from psycopg import OperationalError

    try:
        return hook.get_iam_token(settings)
    except Exception as error:  # each cloud's client raises errors of its own
        raise OperationalError(f"No IAM token for connection {TRAINING_DB} was received: {error}") from error


def create_s3_client(*, interactive: bool = False, connection: str = TRAINING_S3) -> S3Client:
    """Return a boto3 client for the endpoint of `connection`, with our timeouts and retries.

    An interactive client gives up sooner: it is for small requests that a user waits for. Raises
    SettingRefused if the endpoint is not a URL, or if the region is invalid.
    """
    from include.deployment.s3_hook import FastS3Hook
    from include.s3.client import build_client_config, build_interactive_config

    config = build_interactive_config() if interactive else build_client_config()
    with _name_invalid(f"extra.endpoint_url of connection {connection}", connection):
        return FastS3Hook(aws_conn_id=connection, config=config).get_conn()


def open_bucket(settings: Settings, *, interactive: bool = False) -> Bucket:
    """Return the deployment's bucket, accessed with connection `training_s3`."""
    from include.s3.bucket import Bucket

    return Bucket(create_s3_client(interactive=interactive), settings.bucket)


def open_maintenance_bucket(settings: Settings) -> Bucket:
    """Return the deployment's bucket for tasks that delete, accessed with `training_s3_maintenance`.

    Raises SettingRefused if this worker does not have that connection, and LookupFailed if Airflow cannot
    look it up.
    """
    from airflow.sdk.exceptions import AirflowNotFoundException

    from include.s3.bucket import Bucket

    try:
        look_up(TRAINING_S3_MAINTENANCE)  # if the connection were missing, S3Hook would continue without keys
    except AirflowNotFoundException:
        raise SettingRefused(
            f"connection {TRAINING_S3_MAINTENANCE} does not exist on this worker, and {TRAINING_S3} may not "
            f"delete objects; define {TRAINING_S3_MAINTENANCE} for the workers of queue {MAINTENANCE_QUEUE} "
            "(docs/deployment.md, S3)"
        ) from None
    return Bucket(create_s3_client(connection=TRAINING_S3_MAINTENANCE), settings.bucket)


def create_s3_signer(endpoint_url: str | None) -> S3Client:
    """Return a boto3 client that signs links for `endpoint_url`, which may be unreachable from this machine.

    None means the endpoint of connection `training_s3`, whose credentials sign the links in either case.
    Raises SettingRefused if the endpoint is not a URL, or if the region is invalid.
    """
    from include.deployment.s3_hook import FastS3Hook
    from include.s3.client import build_signing_config

    hook = FastS3Hook(aws_conn_id=TRAINING_S3)
    endpoint = endpoint_url or hook.conn_config.get_service_endpoint_url("s3")
    setting = "S3_PUBLIC_ENDPOINT_URL" if endpoint_url else f"extra.endpoint_url of connection {TRAINING_S3}"
    with _name_invalid(setting, TRAINING_S3):
        return hook.get_session().client("s3", endpoint_url=endpoint, config=build_signing_config(endpoint))


@contextmanager
def _name_invalid(endpoint_setting: str, connection: str) -> Iterator[None]:
    """Raise SettingRefused if botocore refuses the endpoint or the region of a new client."""
    from include.s3.errors import is_about_region

    try:
        yield
    except ValueError as error:
        if is_about_region(error):
            raise SettingRefused(
                f"extra.region_name of connection {connection} is not a region ({error}); correct it"
            ) from None
        raise SettingRefused(
            f"{endpoint_setting} is not a URL such as https://s3.example.org ({error}); correct it"
        ) from None
