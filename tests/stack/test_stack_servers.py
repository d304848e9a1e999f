"""The local stack's state folder and its two servers."""

from __future__ import annotations

import json
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, fields, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import requests

from include.deployment.settings import DEFAULT_BUCKET
from include.stack import processes
from include.stack.errors import StackError
from include.stack.local import Stack
from include.stack.overview import render_exports
from include.stack.ports import LOOPBACK, find_grpc_sockets
from include.stack.postgres import Postgres
from include.stack.processes import as_user
from include.stack.s3 import S3Ports
from include.stack.steps import Steps
from tests.support import stacks
from tests.support.first_write import wait_until_storing
from tests.support.stacks import UNSAFE_BUT_FAST, processes_of, reachable_directory
from tests.support.waiting import until


@pytest.fixture(scope="module")
def own_stack() -> Iterator[Stack]:
    """Yield a separate stack that tests may stop and start."""
    with stacks.own_stack() as stack:
        yield stack


def _secrets(stack: Stack) -> list[str]:
    return [value for name, value in asdict(stack.credentials).items() if name != "identity"]


def test_servers_listen_on_the_loopback_interface_only(own_stack: Stack) -> None:
    sockets = [each for process in processes_of(own_stack) for each in process.net_connections("inet")]
    listening = {each.laddr.ip for each in sockets if each.status == psutil.CONN_LISTEN}
    assert listening == {LOOPBACK}


def test_servers_listen_on_the_remembered_ports_only(own_stack: Stack) -> None:
    sockets = [each for process in processes_of(own_stack) for each in process.net_connections("inet")]
    listening = {each.laddr.port for each in sockets if each.status == psutil.CONN_LISTEN}
    assert listening <= own_stack.ports.list_numbers()


def test_no_command_line_shows_a_secret(own_stack: Stack) -> None:
    command_lines = "\n".join(" ".join(process.cmdline()) for process in processes_of(own_stack))
    assert not [secret for secret in _secrets(own_stack) if secret in command_lines]


def test_no_log_shows_a_secret(own_stack: Stack) -> None:
    logs = "\n".join(log.read_text() for log in (own_stack.state.path / "logs").iterdir())
    assert not [secret for secret in _secrets(own_stack) if secret in logs]


def test_only_the_owner_reads_the_credentials(own_stack: Stack) -> None:
    assert stat.S_IMODE(own_stack.state.credentials_file.stat().st_mode) == 0o600


def test_others_cannot_list_the_state_folder(own_stack: Stack) -> None:
    assert stat.S_IMODE(own_stack.state.path.stat().st_mode) & 0o066 == 0


def test_postgres_refuses_a_wrong_password(own_stack: Stack) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(own_stack.postgres.build_url("training", "training", "wrong"))


@pytest.mark.parametrize(
    ("role", "database"), [("training", "airflow"), ("training_app", "airflow"), ("airflow", "training")]
)
def test_a_role_of_one_database_cannot_connect_to_the_other(
    own_stack: Stack, role: str, database: str
) -> None:
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(own_stack.postgres.build_url(database, role))


def test_starting_twice_keeps_the_processes(own_stack: Stack) -> None:
    before = {each.read_text() for each in (own_stack.state.path / "pids").iterdir()}
    own_stack.start_servers(Steps.quiet())
    assert {each.read_text() for each in (own_stack.state.path / "pids").iterdir()} == before


@pytest.mark.parametrize("name", ["postgres", "s3"])
def test_a_server_that_is_still_starting_is_waited_for(
    own_stack: Stack, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: Any = getattr(own_stack, name)
    answers = type(server)._answers
    server.stop()
    # The server starts only when it is resumed, after the first check of whether it is ready.
    command = ("/bin/sh", "-c", 'kill -STOP $$; exec "$@"', "sh", *server.service.command)
    process = processes.start(replace(server.service, command=command))
    until(lambda: process.status() == psutil.STATUS_STOPPED, "the server waits", pause=0.02)

    def resume_and_answer(server: Any) -> bool:
        was_ready: bool = answers(server)
        process.resume()
        return was_ready

    monkeypatch.setattr(type(server), "_answers", resume_and_answer)
    try:
        assert not server.start()
        assert answers(server)
        assert processes.find_process(server.service) == process
    finally:
        process.resume()


@contextmanager
def stale_lock(postgres: Postgres, working_in: Path) -> Iterator[psutil.Process]:
    """Kill the server; give its pid, according to its lock file, to a program that works in that folder."""
    server = processes.find_process(postgres.service)
    assert server is not None
    for process in (server, *server.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # some end by themselves
            process.kill()
    server.wait()
    lock = postgres.data / "postmaster.pid"
    with subprocess.Popen(["sleep", "600"], cwd=working_in, **as_user(postgres.service.user)) as program:
        lock.write_text("\n".join([str(program.pid), *lock.read_text().splitlines()[1:], ""]))
        try:
            yield psutil.Process(program.pid)
        finally:
            program.kill()


def test_postgres_starts_although_another_program_has_the_pid_in_its_lock_file(own_stack: Stack) -> None:
    with stale_lock(own_stack.postgres, Path("/")) as other:
        assert own_stack.postgres.start()
        assert other.is_running()


def test_postgres_is_restarted_although_nobody_has_reaped_the_killed_server(own_stack: Stack) -> None:
    own_stack.postgres.start()
    server = processes.find_process(own_stack.postgres.service)
    assert server is not None
    server.kill()
    until(lambda: server.status() == psutil.STATUS_ZOMBIE)
    assert processes.revive(own_stack.postgres.service)
    assert not own_stack.postgres.start()


def test_postgres_respects_the_lock_file_of_a_server_that_works_in_its_data_folder(own_stack: Stack) -> None:
    with (
        stale_lock(own_stack.postgres, own_stack.postgres.data),
        pytest.raises(StackError, match=r'lock file "postmaster.pid" already exists'),
    ):
        own_stack.postgres.start()
    own_stack.postgres.start()


def test_data_and_ports_outlive_a_stop(own_stack: Stack) -> None:
    remembered = own_stack.ports
    wait_until_storing(own_stack.s3)
    own_stack.s3.client().put_object(Bucket="training-checkpoints", Key="kept", Body=b"bytes")
    with psycopg.connect(own_stack.training_db_url) as connection:
        connection.execute("CREATE TABLE kept (x int)")
    own_stack.down(Steps.quiet())
    own_stack.down(Steps.quiet())

    again = Stack.at(own_stack.state.path, UNSAFE_BUT_FAST)
    again.start_servers(Steps.quiet())

    assert again.ports == remembered
    assert again.s3.client().get_object(Bucket="training-checkpoints", Key="kept")["Body"].read() == b"bytes"
    with psycopg.connect(again.training_db_url) as connection:
        connection.execute("TABLE kept")


def test_a_stored_port_that_another_program_has_taken_is_replaced(own_stack: Stack) -> None:
    own_stack.down(Steps.quiet())
    lost = own_stack.ports.s3.s3
    with socket.create_server((LOOPBACK, lost)):
        own_stack.start_servers(Steps.quiet())
    assert own_stack.ports.s3.s3 != lost
    assert own_stack.s3.client().list_buckets()["Buckets"][0]["Name"] == "training-checkpoints"


def test_a_port_that_is_taken_while_the_servers_start_is_replaced(
    own_stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_stack.down(Steps.quiet())
    port = own_stack.ports.s3.filer
    start = Postgres.start
    with ExitStack() as others:

        def start_while_another_program_starts(postgres: Postgres) -> bool:
            if own_stack.ports.s3.filer == port:
                others.enter_context(socket.create_server((LOOPBACK, port)))
            return start(postgres)

        monkeypatch.setattr(Postgres, "start", start_while_another_program_starts)
        own_stack.start_servers(Steps.quiet())
        assert own_stack.s3.is_running()
        assert own_stack.ports.s3.filer != port


def test_a_stopped_stack_leaves_no_sockets_in_tmp(own_stack: Stack) -> None:
    def sockets() -> list[Path]:
        return [each for port in own_stack.ports.s3.list_numbers() for each in find_grpc_sockets(port)]

    own_stack.start_servers(Steps.quiet())
    assert sockets()
    own_stack.down(Steps.quiet())
    assert not sockets()


def test_stopping_a_stopped_stack_keeps_the_socket_of_another_server_on_its_port(own_stack: Stack) -> None:
    own_stack.down(Steps.quiet())
    port = own_stack.ports.s3.filer_grpc
    used = Path(f"/tmp/seaweedfs-filer-grpc-{port}.sock")  # noqa: S108 - where SeaweedFS puts it
    with socket.create_server((LOOPBACK, port)):
        used.touch()
        try:
            own_stack.down(Steps.quiet())
            assert used.exists()
        finally:
            used.unlink(missing_ok=True)


def test_exported_lines_work_in_a_shell(own_stack: Stack) -> None:
    lines = "\n".join(render_exports(own_stack))
    script = f'{lines}\nprintf "%s %s" "$TRAINING_DB_URL" "$AIRFLOW_CONN_TRAINING_DB"'
    shown = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, env={})
    url, _, connection = shown.stdout.partition(" ")
    assert url == own_stack.training_db_url
    assert json.loads(connection)["host"] == LOOPBACK


def test_a_proxy_for_the_internet_is_not_used_for_the_stack(
    own_stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_stack.start_servers(Steps.quiet())
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{LOOPBACK}:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert own_stack.s3.client().list_buckets()["Buckets"]

    lines = "\n".join(render_exports(own_stack))
    request = "import os, requests; requests.get(os.environ['S3_ENDPOINT_URL'])"
    subprocess.run(["sh", "-c", f'{lines}\n"$0" -c "$1"', sys.executable, request], check=True)


def test_a_server_that_dies_at_start_shows_the_end_of_its_log() -> None:
    with reachable_directory() as directory:
        stack = Stack.at(directory, {"shared_buffers": "nonsense"})
        with pytest.raises(StackError, match=r'postgres.log and ends with:\n(?s:.*)"nonsense"'):
            stack.start_servers(Steps.quiet())


def test_an_initdb_that_was_killed_is_repeated() -> None:
    with reachable_directory() as directory:
        postgres = Stack.at(directory, UNSAFE_BUT_FAST).postgres
        creating = get_context("fork").Process(target=postgres.start)
        creating.start()
        while not list(directory.glob("pgdata*/PG_VERSION")):
            assert creating.is_alive()
        creator = psutil.Process(creating.pid)
        for process in (*creator.children(recursive=True), creator):
            with suppress(psutil.NoSuchProcess):  # initdb runs programs that end by themselves
                process.kill()
        creating.join()
        try:
            assert postgres.start()
            psycopg.connect(postgres.build_url("postgres")).close()
        finally:
            postgres.stop()


def test_data_without_their_version_are_refused_and_kept() -> None:
    with reachable_directory() as directory:
        postgres = Stack.at(directory, UNSAFE_BUT_FAST).postgres
        kept = directory / "pgdata" / "base" / "1"
        kept.parent.mkdir(parents=True)
        kept.write_text("rows")
        with pytest.raises(StackError, match=r"pgdata is not empty, but has no PG_VERSION"):
            postgres.start()
        assert kept.read_text() == "rows"


def test_new_databases_get_airflows_tables_although_earlier_ones_had_them() -> None:
    with stacks.own_stack() as stack:
        airflow = stack.airflow
        airflow.home.mkdir()
        (airflow.home / "migrated").write_text("3.3.2")
        stack.start_servers(Steps.quiet())
        assert airflow.is_migrated()
        stack.down(Steps.quiet())
        stack.postgres.data.rename(stack.state.path / "pgdata.old")
        stack.start_servers(Steps.quiet())
        assert not airflow.is_migrated()


def test_nothing_starts_before_an_interrupted_rotation_is_finished(tmp_path: Path) -> None:
    stack = Stack.at(tmp_path / "state", UNSAFE_BUT_FAST)
    chosen = stack.state.prepare_next_credentials()
    for start in (stack.up, stack.start_servers):
        with pytest.raises(StackError, match="Run `make rotate` again"):
            start(Steps.quiet())
    assert not list(stack.state.path.glob("pids/*"))
    assert stack.state.prepare_next_credentials() == chosen


PORTS = {"postgres": 5432, "airflow": 8080, "s3": {field.name: 1 for field in fields(S3Ports)}}


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("credentials", "{", "is not readable as JSON"),
        ("credentials", "", "is not readable as JSON"),
        ("credentials", "[]", "is not a JSON object"),
        ("credentials", '{"postgres_password": null}', "has no postgres_password"),
        ("ports", "{", "is not readable as JSON"),
        ("ports", '{"postgres": 5432}', "does not name the port of each service"),
        ("ports", '{"postgres": 5432, "airflow": 8080, "s3": {}}', "does not name the port of each service"),
        ("ports", json.dumps(PORTS | {"airflow": "8080"}), "has a port that is not a number"),
        ("ports", json.dumps(PORTS | {"airflow": [8080]}), "does not name the port of each service"),
    ],
)
def test_a_damaged_file_is_named_with_a_remedy(name: str, content: str, problem: str, tmp_path: Path) -> None:
    stack = Stack.at(tmp_path / "state")
    (stack.state.path / name).write_text(content)
    with pytest.raises(StackError, match=rf"{name} {problem}.*Restore it, or run `make down` and remove"):
        stack.start_servers(Steps.quiet())
    stack.down(Steps.quiet())


def test_a_stack_with_damaged_files_can_be_stopped() -> None:
    with reachable_directory() as directory:
        stack = Stack.at(directory, UNSAFE_BUT_FAST)
        try:
            stack.start_servers(Steps.quiet())
            running = processes_of(stack)
            stack.state.credentials_file.write_text("{")
            stack.state.ports_file.unlink()
            stack.model_keys.private.write_text("-----BEGIN")
            Stack.at(directory).down(Steps.quiet())
            assert len(running) > 2
            assert all(map(processes.has_ended, running))
        finally:
            stack.down(Steps.quiet())


@pytest.mark.parametrize(
    ("foreign", "method", "allowed"), [(False, "PUT", True), (True, "PUT", False), (False, "GET", False)]
)
def test_only_pages_of_this_airflow_may_upload_files_and_may_read_none(
    own_stack: Stack, foreign: bool, method: str, allowed: bool
) -> None:
    own_stack.start_servers(Steps.quiet())
    origin = "https://elsewhere.example" if foreign else own_stack.url
    answer = requests.options(
        f"{own_stack.s3.endpoint_url}/{DEFAULT_BUCKET}/uploads/x/y.zip",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "if-none-match",
        },
        timeout=30,
    )
    methods = answer.headers.get("Access-Control-Allow-Methods", "")
    is_allowed = answer.headers.get("Access-Control-Allow-Origin") == origin and method in methods
    assert is_allowed is allowed, answer.headers
