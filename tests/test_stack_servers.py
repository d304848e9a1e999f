"""The two servers of the local stack."""

from __future__ import annotations

import psutil
import psycopg
from mypy_boto3_s3 import S3Client

from include.stack import processes
from include.stack.postgres import Postgres
from include.stack.s3 import S3


def _listeners(pid: int) -> set[str]:
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    sockets = [each for process in family for each in process.net_connections("inet")]
    return {each.laddr.ip for each in sockets if each.status == psutil.CONN_LISTEN}


def test_a_fresh_database_takes_tables(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE t (x int)")
        assert connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchone() == (1,)


def test_postgres_listens_on_the_loopback_only(postgres: Postgres) -> None:
    process = processes.running(postgres._service)
    assert process is not None
    assert _listeners(process.pid) == {"127.0.0.1"}


def test_s3_listens_on_the_loopback_only(s3: S3) -> None:
    process = processes.running(s3._service)
    assert process is not None
    assert _listeners(process.pid) == {"127.0.0.1"}


def test_a_bucket_keeps_what_was_put(s3_client: S3Client, bucket: str) -> None:
    s3_client.put_object(Bucket=bucket, Key="checkpoints/a/last.pt", Body=b"state")
    assert s3_client.get_object(Bucket=bucket, Key="checkpoints/a/last.pt")["Body"].read() == b"state"
