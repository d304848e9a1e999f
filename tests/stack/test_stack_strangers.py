"""Another account of this machine can do nothing to PostgreSQL and S3 of the local stack.

Each port either requires a password or a signature, or refuses every client without the stack's
certificate.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest
import requests
from botocore.exceptions import ClientError

from include.stack import certificates, ports, processes
from include.stack import postgres as postgres_module
from include.stack.certificates import prepare_certificates
from include.stack.errors import StackError
from include.stack.local import Stack
from include.stack.ports import LOOPBACK
from include.stack.postgres import _find_package
from include.stack.steps import Steps
from tests.support.stacks import UNSAFE_BUT_FAST, process_of, reachable_directory
from tests.support.strangers import IS_ROOT, as_stranger, demands_certificate, readable_by_others
from tests.support.waiting import until

if TYPE_CHECKING:
    from include.stack.postgres import Postgres
    from include.stack.s3 import S3, S3Ports

WEED = Path(sysconfig.get_path("scripts")) / "weed"
BUCKET, KEY, SECRET = "stranger-test", "kept", b"kept secret " * 10_000


@pytest.fixture(scope="module")
def kept(s3: S3) -> Iterator[str]:
    """Yield the path of an object that other accounts may not read."""
    client = s3.client()
    client.create_bucket(Bucket=BUCKET)
    client.put_object(Bucket=BUCKET, Key=KEY, Body=SECRET)
    yield f"{BUCKET}/{KEY}"
    assert client.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == SECRET
    client.delete_object(Bucket=BUCKET, Key=KEY)
    client.delete_bucket(Bucket=BUCKET)


def listening(stack: Stack, name: str) -> set[int]:
    """Return the ports on which the server listens."""
    process = process_of(stack.state.path, name)
    family = [process, *process.children(recursive=True)]
    sockets = [each for member in family for each in member.net_connections("inet")]
    return {each.laddr.port for each in sockets if each.status == psutil.CONN_LISTEN}


# --- S3 ---


@pytest.mark.usefixtures("kept")
def test_every_port_behind_s3_refuses_clients_without_a_certificate(stack: Stack, s3: S3) -> None:
    until(
        lambda: listening(stack, "s3") == s3.ports.list_numbers(), "every part of the S3 server listens", 60
    )
    behind = s3.ports.list_numbers() - {s3.ports.s3}
    assert as_stranger(lambda: [port for port in behind if not demands_certificate(port)]) == []


def shell(ports: S3Ports, *options: str) -> list[str]:
    """Return the command of SeaweedFS' administration shell."""
    return [
        str(WEED), *options, "shell", f"-master={LOOPBACK}:{ports.master}.{ports.master_grpc}",
        f"-filer={LOOPBACK}:{ports.filer}.{ports.filer_grpc}",
    ]  # fmt: skip


def listed(command: list[str], seconds: float) -> str:
    """Return the shell's listing of the bucket; without a timeout it could wait forever for a response."""
    try:
        done = subprocess.run(
            command, input=f"fs.ls /buckets/{BUCKET}\nexit\n", cwd="/", env={"HOME": "/nonexistent"},
            capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as expired:
        return (expired.stdout or b"").decode()
    return done.stdout


@pytest.mark.usefixtures("kept")
def test_the_administrators_shell_sees_objects_only_with_the_certificates(s3: S3) -> None:
    assert KEY in listed(shell(s3.ports, f"-config_dir={s3.security}"), 60)
    assert KEY not in as_stranger(partial(listed, shell(s3.ports), 3))


@pytest.mark.skipif(not IS_ROOT, reason="only root can act as two accounts")
def test_a_port_is_not_free_while_another_accounts_socket_would_block_the_s3_server() -> None:
    port = ports.choose()
    left = Path(f"/tmp/seaweedfs-filer-grpc-{port}.sock")  # noqa: S108 - where SeaweedFS puts it
    left.touch()
    try:
        assert ports.is_free(port)
        assert not as_stranger(lambda: ports.is_free(port))
    finally:
        left.unlink()


def test_s3_itself_refuses_unsigned_requests(s3: S3, kept: str) -> None:
    paths = ["", BUCKET, kept, f"{BUCKET}?delete", f"{kept}?acl", "?Action=ListUsers"]
    requested = list(product(["GET", "HEAD", "PUT", "POST", "DELETE"], paths))

    def ask() -> list[int]:
        return [
            requests.request(method, f"{s3.endpoint_url}/{path}", timeout=10).status_code
            for method, path in requested
        ]

    answers = dict(zip(requested, as_stranger(ask), strict=True))
    assert not {request: status for request, status in answers.items() if status not in {400, 403, 405}}


def test_unsigned_requests_to_s3_reveal_only_that_it_runs(s3: S3) -> None:
    for path in ("status", "healthz"):
        answered = as_stranger(partial(requests.get, f"{s3.endpoint_url}/{path}", timeout=10))
        assert answered.content == b""


def test_the_sockets_of_s3_are_closed_to_others(stack: Stack, s3: S3) -> None:
    process = process_of(stack.state.path, "s3")
    sockets = {Path(process.cwd(), str(each.laddr)) for each in process.net_connections("unix") if each.laddr}
    assert len(sockets) >= 6
    assert not [path for path in sockets if stat.S_IMODE(path.stat().st_mode) & 0o077]


def test_s3_opens_no_file_in_tmp(stack: Stack, s3: S3) -> None:
    opened = [file.path for file in process_of(stack.state.path, "s3").open_files()]
    assert not [path for path in opened if Path(path).parent == Path("/tmp")]  # noqa: S108 - it must not be used


def test_data_of_an_earlier_version_without_certificates_are_served_again() -> None:
    with reachable_directory() as directory:
        stack = Stack.at(directory, UNSAFE_BUT_FAST)
        service = stack.s3.service
        newer = ("-config_dir", "-s3.config", "-s3.iam=")
        earlier = replace(
            service,
            command=tuple(word for word in service.command if not word.startswith(newer)),
            environment={
                **service.environment,
                "AWS_ACCESS_KEY_ID": stack.s3.access_key,
                "AWS_SECRET_ACCESS_KEY": stack.s3.secret_key,
            },
        )
        try:
            (directory / "s3").mkdir(mode=0o755)
            processes.start(earlier)
            processes.wait_until_ready(earlier, stack.s3._answers, 60)
            stack.s3.ensure_bucket(BUCKET)
            until(lambda: _stored(stack), "a volume that takes an object")  # soon after the port is open
            ports = stack.ports.s3
            assert KEY in as_stranger(partial(listed, shell(ports), 60)) or not _reachable_by_others(WEED)
            stack.s3.stop()

            stack.s3.start()

            assert stack.s3.client().get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == SECRET
            assert as_stranger(partial(demands_certificate, ports.filer_grpc))
        finally:
            stack.down(Steps.quiet())


def _stored(stack: Stack) -> bool:
    with suppress(ClientError):
        stack.s3.client().put_object(Bucket=BUCKET, Key=KEY, Body=SECRET)
        return True
    return False


def _reachable_by_others(path: Path) -> bool:
    return not IS_ROOT or as_stranger(lambda: os.access(path, os.X_OK))


# --- certificates ---


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_valid_certificates_are_kept(tmp_path: Path) -> None:
    prepare_certificates(tmp_path / "security")
    before = contents(tmp_path / "security")
    prepare_certificates(tmp_path / "security")
    assert contents(tmp_path / "security") == before


@pytest.mark.parametrize(
    ("name", "value"),
    [("VALIDITY", timedelta(days=364)), ("_CLOCK_SKEW", timedelta(days=-30))],
    ids=["expiring soon", "created while the clock was ahead"],
)
def test_certificates_are_renewed_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: timedelta
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(certificates, name, value)
        prepare_certificates(tmp_path / "security")
    before = contents(tmp_path / "security")
    prepare_certificates(tmp_path / "security")
    after = contents(tmp_path / "security")
    assert all(after[name] != before[name] for name in ("authority.pem", "certificate.pem", "key.pem"))


@pytest.mark.parametrize("name", ["authority.pem", "certificate.pem", "key.pem", "security.toml"])
@pytest.mark.parametrize("damage", ["removed", "emptied", "of another stack"])
def test_mismatched_certificates_are_replaced(tmp_path: Path, name: str, damage: str) -> None:
    folder, other = tmp_path / "security", tmp_path / "other"
    for each in (folder, other):
        prepare_certificates(each)
    if damage == "removed":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(b"" if damage == "emptied" else (other / name).read_bytes())
    prepare_certificates(folder)
    made = contents(folder)
    prepare_certificates(folder)
    assert contents(folder) == made
    assert str(folder) in made["security.toml"].decode()


def test_the_certificate_settings_of_a_moved_stack_name_its_new_folder(tmp_path: Path) -> None:
    prepare_certificates(tmp_path / "before")
    moved = (tmp_path / "before").rename(tmp_path / "after")
    prepare_certificates(moved)
    assert str(tmp_path / "before") not in (moved / "security.toml").read_text()


def test_only_the_owner_reads_the_certificates(tmp_path: Path) -> None:
    (tmp_path / "security").mkdir(mode=0o755)
    prepare_certificates(tmp_path / "security")
    assert stat.S_IMODE((tmp_path / "security").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "security").iterdir()} == {0o600}


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "security").write_text("")
    with pytest.raises(StackError, match="security cannot be made private"):
        prepare_certificates(tmp_path / "security")


# --- PostgreSQL and files ---


@pytest.mark.skipif(not IS_ROOT, reason="PostgreSQL runs as another account only if root starts it")
@pytest.mark.long
def test_root_with_a_strict_umask_starts_postgres(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages and the state folder are root's alone, as in a clone in /root."""
    package = _find_package()
    for part in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.parent / part, tmp_path / part, symlinks=True)
    subprocess.run(["chmod", "--recursive", "go=", tmp_path], check=True)
    monkeypatch.setattr(postgres_module, "_find_package", lambda: tmp_path / package.name)
    with reachable_directory() as store:
        monkeypatch.setattr(postgres_module, "ROOT_STORE", store)
        own = Stack.at(tmp_path / "state", UNSAFE_BUT_FAST).postgres
        before = os.umask(0o077)
        try:
            assert own.start()
            assert own.data.is_relative_to(store)
            assert own.programs.is_relative_to(store)
        finally:
            os.umask(before)
            own.stop()


def test_postgres_requires_a_password(postgres: Postgres) -> None:
    def attempt(user: str) -> str:
        try:
            psycopg.connect(host=LOOPBACK, port=postgres.port, user=user, dbname="postgres", passfile="/x")
        except psycopg.OperationalError as error:
            return str(error)
        return "let in"

    for user in ("postgres", "training", "airflow", "nobody"):
        assert "no password supplied" in as_stranger(partial(attempt, user))


def test_postgres_accepts_only_password_authentication(postgres: Postgres) -> None:
    with psycopg.connect(postgres.build_url("postgres")) as connection:
        methods = connection.execute("SELECT DISTINCT auth_method FROM pg_hba_file_rules").fetchall()
        sockets = connection.execute("SHOW unix_socket_directories").fetchone()
    assert methods == [("scram-sha-256",)]
    assert sockets == ("",)


@pytest.mark.usefixtures("postgres", "s3")
def test_no_file_of_the_stack_can_be_read_by_others(stack: Stack) -> None:
    assert not stack.state.path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH)
    assert not list(readable_by_others(stack.state.path))
