"""The outside world, opened through Airflow's connections: Postgres and S3."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from include.pipeline.settings import TRAINING_DB, TRAINING_S3

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client
    from psycopg import Connection


@contextmanager
def training_db() -> Iterator[Connection]:
    """A fresh psycopg connection to the training database, closed afterwards.

    Opened for each use rather than kept: a connection that idles through an epoch is one that a firewall
    drops.
    """
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    # psycopg 3, as everywhere with SQLAlchemy 2; the hook's own type also covers psycopg2
    connection = cast("Connection", PostgresHook(postgres_conn_id=TRAINING_DB).get_conn())
    try:
        yield connection
    finally:
        connection.close()


def s3_client() -> S3Client:
    """A boto3 client for the endpoint of connection `training_s3`, with our time-outs and retries."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    from include.checkpoints.store import client_config

    return S3Hook(aws_conn_id=TRAINING_S3, config=client_config()).get_conn()
