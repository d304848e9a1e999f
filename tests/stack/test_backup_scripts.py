"""config/backup.sh and config/restore.sh with a table and two objects; for jobs see long/test_backup.py."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from include.stack.postgres import Postgres
from include.stack.s3 import S3
from tests.support.http_server import Handler, Server
from tests.support.waiting import until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ROOT = Path(__file__).parents[2]


@pytest.fixture
def offsite(s3_client: S3Client, bucket: str) -> Iterator[str]:
    """Yield the name of a second bucket, for the backups of the first."""
    name = f"{bucket}-offsite"
    s3_client.create_bucket(Bucket=name)
    yield name
    empty(s3_client, name)
    s3_client.delete_bucket(Bucket=name)


def empty(client: S3Client, bucket: str) -> None:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", []):
            client.delete_object(Bucket=bucket, Key=item["Key"])


def test_an_older_backup_is_restored_with_its_own_objects(
    postgres: Postgres,
    s3: S3,
    s3_client: S3Client,
    bucket: str,
    offsite: str,
    database_url: str,
    tmp_path: Path,
) -> None:
    programs = [sysconfig.get_path("scripts"), str(postgres.programs), os.environ["PATH"]]
    environment = {
        "PATH": os.pathsep.join(programs),
        "HOME": str(tmp_path),
        "TRAINING_DB_URL": database_url,
        "S3_ENDPOINT_URL": s3.endpoint_url,
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        "AWS_REGION": s3.region,
        "CHECKPOINT_BUCKET": bucket,
    }

    def run(script: str, *arguments: str) -> str:
        command = ["bash", str(ROOT / "config" / script), f"bucket:{offsite}/nightly", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE numbers AS SELECT 0 AS number")
    times = []
    # All of the same size, like the states of one job.
    for number, state in enumerate((b"1111", b"2222", b"3333"), 1):
        with psycopg.connect(database_url) as connection:
            connection.execute("UPDATE numbers SET number = %s", [number])
        place: Any = {"Bucket": bucket, "Key": "checkpoints/job/last.pt"}
        s3_client.put_object(**place, Body=state, Metadata={"epoch": str(number)})
        if number == 1:
            s3_client.put_object(Bucket=bucket, Key="checkpoints/job/best.pt", Body=b"best")
        if number == 3:
            s3_client.delete_object(Bucket=bucket, Key="checkpoints/job/best.pt")
        times.append(run("backup.sh").split("database/")[1].split(".dump")[0])
        # Names of backups have a resolution of one second.
        until(lambda: f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}" > times[-1], "a time for another backup")
    empty(s3_client, bucket)
    with psycopg.connect(database_url) as connection:
        connection.execute("DROP TABLE numbers")

    run("restore.sh", times[0])
    with pytest.raises(AssertionError, match=r"has 1 tables, .* 2 objects: both must be empty"):
        run("restore.sh")

    with psycopg.connect(database_url) as connection:
        assert connection.execute("TABLE numbers").fetchall() == [(1,)]
    last = s3_client.get_object(Bucket=bucket, Key="checkpoints/job/last.pt")
    assert (last["Body"].read(), last["Metadata"]["epoch"]) == (b"1111", "1")
    assert s3_client.get_object(Bucket=bucket, Key="checkpoints/job/best.pt")["Body"].read() == b"best"


def test_temporary_keys_are_sent_with_their_token(tmp_path: Path) -> None:
    tokens = []

    class Bucket(Handler):
        def do_GET(self) -> None:
            tokens.append(self.headers["X-Amz-Security-Token"])
            self.respond(200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")

    settings = ROOT / "config" / "backup-settings.sh"
    with Server(Bucket) as server:
        environment = {
            "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]]),
            "HOME": str(tmp_path),
            "TRAINING_DB_URL": "postgresql://training@127.0.0.1/training",
            "S3_ENDPOINT_URL": server.url,
            "AWS_ACCESS_KEY_ID": "temporary",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_SESSION_TOKEN": "token",
            "CHECKPOINT_BUCKET": "bucket",
        }
        command = ["bash", "-euc", f"source '{settings}'; rclone lsf bucket:$CHECKPOINT_BUCKET"]
        subprocess.run(command, env=environment, check=True)
    assert tokens == ["token"]
