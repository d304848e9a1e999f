"""Services of the local stack that die are restarted, and leave no processes behind."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import psutil
import psycopg
import pytest

from include.stack import gpus, processes
from include.stack.errors import StackError
from include.stack.families import identify_start
from include.stack.local import Stack
from include.stack.outages import retry_during_outage
from include.stack.overview import describe_service, describe_services
from include.stack.processes import Service
from include.stack.restarts import MOST_RESTARTS, History, Restarts
from include.stack.steps import Steps
from include.stack.supervisor import LOG_BYTES, limit_logs, restart_dead
from include.training.gpus import Gpu
from tests.support.stacks import own_stack
from tests.support.waiting import until

PR_SET_CHILD_SUBREAPER = 36

PARENT = """
import os, time

os.fork()
time.sleep(600)
"""


def service_of(folder: Path, program: str) -> Service:
    """Return a service that runs `program` in `folder`."""
    return Service("example", (sys.executable, "-c", program), os.environ, folder, folder)


TALKER = """
import time

print("x" * 100, flush=True)
while True:
    print("said", flush=True)
    time.sleep(0.01)
"""


@pytest.fixture(scope="module", autouse=True)
def adopted_orphans() -> Iterator[None]:
    """Adopt orphans, because process 1 of a container or virtual machine may take seconds to reap each."""
    if sys.platform != "linux":
        yield
        return
    set_option = ctypes.CDLL(None).prctl
    assert set_option(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    set_option(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    for child in psutil.Process().children():
        if child.status() == psutil.STATUS_ZOMBIE:
            child.wait()


@pytest.fixture
def parent_service(tmp_path: Path) -> Iterator[Service]:
    """Yield a running service with a child."""
    service = service_of(tmp_path, PARENT)
    processes.start(service)
    until(lambda: len(of_service(service)) == 2)
    yield service
    processes.stop(replace(service, stops_children=True))  # by default, the child has a second


def of_service(service: Service) -> list[psutil.Process]:
    """Return all processes that run the command of the service."""
    return [
        each
        for each in psutil.process_iter(["cmdline", "cwd"])
        if each.info["cmdline"] == list(service.command) and each.info["cwd"] == str(service.directory)
    ]


def kill(service: Service) -> psutil.Process:
    """Send SIGKILL only to the process that was started, and not to its children."""
    process = processes.find_process(service)
    assert process is not None
    process.kill()
    until(lambda: processes.find_process(service) != process)  # a supervisor may have replaced it already
    return process


def test_children_of_a_killed_service_are_stopped(parent_service: Service) -> None:
    kill(parent_service)
    assert len(of_service(parent_service)) == 1
    assert processes.stop(parent_service)
    assert not of_service(parent_service)


def test_a_long_log_is_emptied_and_its_service_goes_on_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talker, silent = service_of(tmp_path, TALKER), replace(service_of(tmp_path, ""), name="silent")
    processes.start(talker)
    until(lambda: talker.log.stat().st_size > 100)
    limit_logs([talker, silent])
    assert 100 < talker.log.stat().st_size < LOG_BYTES
    monkeypatch.setattr("include.stack.supervisor.LOG_BYTES", 100)
    limit_logs([talker, silent])
    until(lambda: "said" in talker.log.read_text())
    processes.stop(talker)
    assert set(talker.log.read_text().split()) == {"said"}
    assert talker.log.with_name("example.log.1").read_text().startswith("x" * 100)


def test_a_killed_service_restarts_without_its_old_children(parent_service: Service) -> None:
    (child,) = set(of_service(parent_service)) - {kill(parent_service)}
    restart_dead([parent_service], History(parent_service.state / "restarts.json"))
    until(lambda: len(of_service(parent_service)) == 2)
    assert child not in of_service(parent_service)


def test_a_stopped_service_is_not_started_again(parent_service: Service) -> None:
    processes.stop(parent_service)
    restart_dead([parent_service], History(parent_service.state / "restarts.json"))
    assert not of_service(parent_service)


def test_a_process_that_survives_its_stop_is_stopped_by_the_next_one(
    parent_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        # Ignore signals, like processes that wait for a disk.
        patched.setattr(psutil.Process, "kill", lambda _: None)
        patched.setattr(psutil.Process, "send_signal", lambda *_: None)
        processes.stop(replace(parent_service, stop_seconds=0.1))
    assert len(of_service(parent_service)) == 2
    assert processes.stop(parent_service)
    assert not of_service(parent_service)
    assert not parent_service.pid_file.exists()


DRAINING = """
import signal, time
from pathlib import Path

def drain(*_):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Path("draining").touch()

signal.signal(signal.SIGTERM, drain)
Path("ready").touch()
time.sleep(600)
"""
"""A program that takes ten minutes to stop unless it gets the signal twice."""


def test_a_stop_does_not_wait_until_somebody_reaps_the_process(tmp_path: Path) -> None:
    service = replace(service_of(tmp_path, PARENT), stop_seconds=600, stops_children=True)

    def start_and_never_reap() -> None:
        processes.start(service)
        time.sleep(600)

    starter = get_context("fork").Process(target=start_and_never_reap)
    starter.start()
    try:
        until(lambda: len(of_service(service)) == 2)
        assert processes.stop(service)
        assert starter.is_alive()
        assert not service.pid_file.exists()
    finally:
        starter.kill()
        starter.join()


def test_a_service_whose_stop_was_interrupted_is_started_and_supervised_again(tmp_path: Path) -> None:
    service = replace(service_of(tmp_path, DRAINING), stop_seconds=600)
    before = processes.start(service)
    until((tmp_path / "ready").exists)
    stopping = get_context("fork").Process(target=processes.stop, args=[service])
    stopping.start()
    until((tmp_path / "draining").exists)
    stopping.kill()
    stopping.join()
    try:
        assert processes.start(service) != before
        assert not before.is_running()
        kill(service)
        restart_dead([service], History(tmp_path / "restarts.json"))
        assert processes.find_process(service)
    finally:
        processes.stop(replace(service, stop_seconds=0.1))


def test_a_service_whose_pid_cannot_be_stored_does_not_run(tmp_path: Path) -> None:
    service = service_of(tmp_path, PARENT)
    (tmp_path / "pids" / "example.pid.new").mkdir(parents=True)  # in place of a full disk
    with pytest.raises(OSError, match=r"example\.pid\.new"):
        processes.start(service)
    until(lambda: not of_service(service))


def test_a_service_does_not_run_if_its_starter_was_killed_before_it_recorded_the_pid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = service_of(tmp_path, PARENT)
    with monkeypatch.context() as patched:
        patched.setattr(processes, "write_private", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        starter = get_context("fork").Process(target=processes.start, args=[service])
        starter.start()
        starter.join()
    until(lambda: not [each for each in psutil.process_iter(["cwd"]) if each.info["cwd"] == str(tmp_path)])
    assert not service.pid_file.exists()
    processes.start(service)
    until(lambda: len(of_service(service)) == 2)
    processes.stop(replace(service, stops_children=True))


def test_a_process_whose_session_has_the_pid_of_a_service_before_a_reboot_is_kept(tmp_path: Path) -> None:
    """Its session and working directory do not prove that it is a child of PostgreSQL, which starts in /."""
    data = tmp_path / "pgdata"
    service = Service("postgres", ("postgres",), {}, Path("/"), tmp_path, children_directory=data)
    script = "sleep 600 >/dev/null 2>&1 & echo $$ $!"
    leader = subprocess.run(
        ["sh", "-c", script], cwd="/", start_new_session=True, capture_output=True, text=True, check=True
    )
    session, pid = map(int, leader.stdout.split())
    other = psutil.Process(pid)
    try:
        assert os.getsid(pid) == session
        service.pid_file.parent.mkdir()
        service.pid_file.write_text(f"{session} other-boot:1\n")
        assert not processes.stop(service)
        assert other.is_running()
    finally:
        other.kill()


def test_a_service_that_version_0_1_0_started_is_found_and_stopped(parent_service: Service) -> None:
    process = processes.find_process(parent_service)
    assert process is not None
    parent_service.pid_file.write_text(f"{process.pid} {process.create_time()}\n")
    assert processes.start(parent_service) == process
    processes.stop(replace(parent_service, stops_children=True))
    assert not of_service(parent_service)


@pytest.mark.parametrize("content", ["", "12", "-1 12:34", "no numbers"])
def test_a_damaged_pid_file_is_named_and_its_processes_are_kept(
    parent_service: Service, content: str
) -> None:
    was = parent_service.pid_file.read_text()
    running = of_service(parent_service)
    parent_service.pid_file.write_text(content)
    try:
        restart_dead([parent_service], History(parent_service.state / "restarts.json"))
        for ask in (processes.start, processes.stop, processes.find_process):
            with pytest.raises(StackError, match=r"example\.pid does not contain the process id"):
                ask(parent_service)
        assert of_service(parent_service) == running
    finally:
        parent_service.pid_file.write_text(was)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"example": 1}', '{"example": {"times": 1}}', '{"example": {"total": "1"}}']
)
def test_damaged_counts_of_restarts_are_reset(parent_service: Service, content: str) -> None:
    file = parent_service.state / "restarts.json"
    file.write_text(content)
    kill(parent_service)
    restart_dead([parent_service], History(file))
    assert History(file).read()["example"].total == 1


def test_a_service_that_keeps_dying_is_no_longer_restarted(tmp_path: Path) -> None:
    service, history = service_of(tmp_path, "raise SystemExit(1)"), History(tmp_path / "restarts.json")
    processes.start(service)
    for _ in range(MOST_RESTARTS + 2):
        until(lambda: processes.find_process(service) is None)
        restart_dead([service], history, pause=lambda in_row: 0.0)
    until(lambda: processes.find_process(service) is None)
    restarts = history.read()["example"]
    assert restarts.total == MOST_RESTARTS
    assert re.fullmatch(
        rf"stopped; restarted {MOST_RESTARTS} times, last at .*; not restarted again: fix the problem "
        rf"shown in {service.log}, then run `make up`",
        describe_service(service, "running", restarts),
    )


def test_the_first_restart_is_immediate_and_the_next_one_waits(parent_service: Service) -> None:
    history = History(parent_service.state / "restarts.json")
    for _ in range(2):
        kill(parent_service)
        restart_dead([parent_service], history, pause=lambda in_row: 600.0 * in_row)
    assert history.read()["example"].total == 1
    assert processes.find_process(parent_service) is None


def test_a_failed_restart_is_not_counted_as_a_restart(parent_service: Service) -> None:
    history = History(parent_service.state / "restarts.json")
    kill(parent_service)
    broken = replace(parent_service, command=("/absent",))
    for _ in range(MOST_RESTARTS + 1):
        restart_dead([broken], history, pause=lambda in_row: 0.0)
    restarts = history.read()["example"]
    assert (restarts.total, restarts.in_row) == (0, MOST_RESTARTS)
    assert "restarted 0 times, last attempt failed at" in describe_service(broken, "running", restarts)


def test_a_service_is_not_restarted_if_the_restart_cannot_be_counted(parent_service: Service) -> None:
    (parent_service.state / "restarts.json.new").mkdir()  # in place of a full disk
    kill(parent_service)
    with pytest.raises(OSError, match=r"restarts\.json\.new"):
        restart_dead([parent_service], History(parent_service.state / "restarts.json"))
    assert processes.find_process(parent_service) is None


@pytest.fixture(scope="module")
def supervised() -> Iterator[Stack]:
    """PostgreSQL and S3, supervised."""
    with own_stack() as stack:
        processes.start(stack.supervisor)
        yield stack


def test_a_killed_server_is_restarted_and_the_status_shows_it(supervised: Stack) -> None:
    kill(supervised.s3.service)
    until(supervised.s3.is_running)
    until(lambda: "restarted once" in describe_services(supervised)["S3"])
    assert describe_services(supervised)["Supervisor"] == "running"


def test_who_follows_a_run_waits_while_postgres_restarts(supervised: Stack) -> None:
    def count_databases() -> int:
        with psycopg.connect(supervised.postgres.build_url("postgres")) as connection:
            return connection.execute("SELECT 1 FROM pg_database").rowcount

    kill(supervised.postgres.service)
    assert retry_during_outage(supervised, Steps.quiet(), count_databases) > 0


def test_stopping_the_supervisor_does_not_stop_services_that_it_has_restarted(supervised: Stack) -> None:
    kill(supervised.s3.service)
    until(supervised.s3.is_running)
    processes.stop(supervised.supervisor)
    assert supervised.s3.is_running()
    processes.start(supervised.supervisor)


def processes_below(folder: Path) -> list[psutil.Process]:
    """Return all processes whose working directory is in the folder."""
    return [
        each
        for each in psutil.process_iter(["cwd"])
        if each.info["cwd"] and Path(each.info["cwd"]).is_relative_to(folder)
    ]


def test_make_down_leaves_nothing_even_after_kills(supervised: Stack) -> None:
    busy = psycopg.connect(supervised.training_db_url)
    busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 100000000000)")
    with psycopg.connect(supervised.training_db_url, autocommit=True) as observer:
        active = "SELECT FROM pg_stat_activity WHERE pid = %s AND state = 'active'"
        until(lambda: observer.execute(active, [busy.info.backend_pid]).rowcount == 1)
    kill(supervised.supervisor)
    kill(supervised.postgres.service)
    kill(supervised.s3.service)
    assert processes_below(supervised.postgres.data)
    supervised.down(Steps.quiet())
    assert not processes_below(supervised.state.path)
    assert not processes_below(supervised.postgres.data)
    busy.close()


def test_setting_the_clock_back_does_not_delay_a_restart(parent_service: Service) -> None:
    history = History(parent_service.state / "restarts.json")
    history.note("example", Restarts(total=1, in_row=1, last=time.time() + 3600))
    kill(parent_service)
    restart_dead([parent_service], history)
    assert processes.find_process(parent_service)


def test_setting_the_clock_back_does_not_prevent_a_service_from_counting_as_steady(
    parent_service: Service,
) -> None:
    history = History(parent_service.state / "restarts.json")
    history.note("example", Restarts(total=1, in_row=1, last=time.time() + 3600))
    restart_dead([parent_service], history)
    assert history.read()["example"].in_row == 0


def test_setting_the_clock_does_not_make_a_service_look_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the machine's boot time, which changes with the clock, psutil adds the start of a process."""
    own = psutil.Process()
    before = identify_start(own)
    set_back = psutil.Process.create_time(own) - 3600
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: set_back)
    assert identify_start(psutil.Process()) == before


def test_the_gpu_driver_is_asked_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def list_no_gpus() -> list[Gpu]:
        asked.append("the driver")
        return []

    monkeypatch.setattr(gpus, "list_visible_gpus", list_no_gpus)
    gpus._count_visible_gpus.cache_clear()
    stack = Stack.at(tmp_path)
    for _ in range(3):
        stack.list_supervised()
    gpus._count_visible_gpus.cache_clear()
    assert len(asked) == 1
