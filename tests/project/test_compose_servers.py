"""The bundled S3 server and the script for PostgreSQL's roles, run here with the commands of Compose."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import psycopg
import pytest
from botocore.exceptions import ClientError

from include.stack import processes
from include.stack.ports import GRPC_OFFSET, LOOPBACK
from include.stack.postgres import Postgres
from include.stack.processes import Service
from include.stack.s3 import S3, S3Ports
from include.stack.s3_identities import Keys, Role
from tests.support.compose import REPOSITORY, SERVICES
from tests.support.first_write import wait_until_storing
from tests.support.strangers import as_stranger, demands_certificate

S3_COMMAND: list[str] = SERVICES["s3"]["command"]
WEED = Path(sysconfig.get_path("scripts")) / "weed"


def test_only_the_s3_port_of_the_bundled_server_is_open(tmp_path: Path) -> None:
    """Without certificates, the gRPC port beside S3's would give keys to anybody who asks.

    Each role has the rights of its policy in the bucket named in .env.
    """
    ports, security = S3Ports.choose(), tmp_path / "s3-security"
    keys = {role: Keys(f"{role}-key", f"{role}-secret") for role in Role}
    given = {"CHECKPOINT_BUCKET": "signed", "PATH": os.environ["PATH"]}
    for role, pair in keys.items():
        given |= {f"S3_{role.upper()}_ACCESS_KEY_ID": pair.access_key}
        given |= {f"S3_{role.upper()}_SECRET_ACCESS_KEY": pair.secret_key}
    assert set(given) - {"PATH"} == set(SERVICES["s3-identities"]["environment"]) - {"S3_PREVIOUS_KEYS"}
    for name in ("s3-certificates", "s3-identities"):
        python, *made_by = SERVICES[name]["entrypoint"]
        assert python == "python"
        made_by[-1] = made_by[-1].replace("/s3-security", str(security))
        subprocess.run([sys.executable, *made_by], cwd=REPOSITORY, env=given, check=True)
    places = {"/s3-security": security, "/data": tmp_path, "8333": ports.s3, "0.0.0.0": LOOPBACK}  # noqa: S104
    chosen = [re.sub("|".join(places), lambda found: str(places[found[0]]), word) for word in S3_COMMAND]
    parts = ("master", "volume", "filer")
    chosen += [f"-{part}.port={getattr(ports, part)}" for part in parts]
    chosen += [f"-{part}.port.grpc={getattr(ports, f'{part}_grpc')}" for part in (*parts, "s3")]
    environment = {"PATH": os.environ["PATH"], **SERVICES["s3"].get("environment", {})}
    service = Service("s3", (str(WEED), *chosen), environment, tmp_path, tmp_path, signal.SIGKILL)
    behind = ports.list_numbers() - {ports.s3, ports.admin, ports.admin + GRPC_OFFSET}
    s3 = S3(tmp_path, ports, keys, ["signed"])
    try:
        processes.start(service)
        processes.wait_until_ready(service, s3._answers, 60)
        wait_until_storing(s3)
        s3.ensure_bucket("signed")
        worker, body = s3.client(Role.WORKER), b"bytes"
        worker.put_object(Bucket="signed", Key="checkpoints/a/best.pt", Body=body)
        assert worker.get_object(Bucket="signed", Key="checkpoints/a/best.pt")["Body"].read() == body
        with pytest.raises(ClientError, match="AccessDenied"):
            worker.delete_object(Bucket="signed", Key="checkpoints/a/best.pt")
        assert as_stranger(lambda: [port for port in behind if not demands_certificate(port)]) == []
    finally:
        processes.stop(service)


ROLES = {"airflow": "airflow", "training": "training", "training_app": "training"}


def make_roles(postgres: Postgres, password: str) -> None:
    """Run the script that Compose runs at each start."""
    environment = {
        "PATH": f"{postgres.programs}:{os.environ['PATH']}",
        "PGHOST": LOOPBACK,
        "PGPORT": str(postgres.port),
        "PGUSER": "postgres",
        "PGPASSWORD": postgres.password,
        "AIRFLOW_DB_PASSWORD": f"airflow-{password}",
        "TRAINING_DB_PASSWORD": f"training-{password}",
        "TRAINING_APP_DB_PASSWORD": f"training_app-{password}",
    }
    subprocess.run(["bash", REPOSITORY / "config" / "postgres-roles.sh"], env=environment, check=True)


def test_roles_and_databases_are_created_once_and_passwords_follow_the_settings(postgres: Postgres) -> None:
    try:
        for password in ("first", "second"):
            make_roles(postgres, password)
            for role, database in ROLES.items():
                psycopg.connect(postgres.build_url(database, role, f"{role}-{password}")).close()
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(postgres.build_url("training", "training", "training-first"))
        for role, database in (
            ("training", "airflow"),
            ("training_app", "airflow"),
            ("airflow", "training"),
        ):
            with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                psycopg.connect(postgres.build_url(database, role, f"{role}-second"))
    finally:
        postgres.ensure_roles()  # restore the passwords that other tests use


@pytest.mark.parametrize("script", ["config/airflow-init.sh", "config/postgres-roles.sh"])
def test_the_scripts_stop_at_the_first_error(script: str) -> None:
    text = (REPOSITORY / script).read_text()
    assert "set -euo pipefail" in text
    # A password in an argument would be visible to everybody who lists the host's processes.
    assert not re.findall(r'--password[ =]"?\$', text)
    subprocess.run(["bash", "-n", REPOSITORY / script], check=True)
