"""An attempt that Airflow wrongly considers dead is killed before the next one begins."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from include.attempt import sole_attempt as module
from include.attempt.sole_attempt import StillRunning, sole_attempt

FORK = multiprocessing.get_context("fork")


class Holder(NamedTuple):
    """A process that holds the job; `worker` is the process id of its child, or its own if it has none."""

    process: ForkProcess
    worker: int

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def status(self) -> int | None:
        """Wait for the end of the process; return its exit status, or minus the signal that killed it."""
        self.process.join()
        return self.process.exitcode


@pytest.fixture(autouse=True, scope="module")
def imported_airflow() -> None:
    """Import what `hold` imports before a test begins: the import replaces log handlers, also caplog's."""
    import airflow.sdk.execution_time.supervisor  # noqa: F401


def hold(locks: Path, run_id: str, attempt: int, held: Connection[Any, Any], *, with_a_worker: bool) -> None:
    """Hold the job until this process is killed; send the id of the last process that holds it."""
    from airflow.sdk.execution_time.supervisor import _make_process_nondumpable

    _make_process_nondumpable()  # as Airflow's tasks
    with sole_attempt(locks, "mine", run_id, attempt):
        if not with_a_worker or os.fork() == 0:
            held.send(os.getpid())
        time.sleep(600)


@contextmanager
def holder(locks: Path, run_id: str, attempt: int, *, with_a_worker: bool = False) -> Iterator[Holder]:
    """Run a process that holds the job. It is forked, because importing Airflow takes seconds."""
    held, sender = FORK.Pipe()
    process = FORK.Process(
        target=hold, args=(locks, run_id, attempt, sender), kwargs={"with_a_worker": with_a_worker}
    )
    process.start()
    sender.close()
    try:
        yield Holder(process, held.recv())
    finally:
        process.kill()
        process.join()


@pytest.mark.parametrize("run_id", ["run1", "run0"])
@pytest.mark.parametrize("stopped", [True, False])
def test_an_older_attempt_is_killed_whether_suspended_or_running(
    run_id: str, stopped: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with holder(tmp_path, run_id, 1) as older:
        if stopped:
            os.kill(older.pid, signal.SIGSTOP)
        with caplog.at_level(logging.WARNING), sole_attempt(tmp_path, "mine", "run1", 2):
            assert older.status() == -signal.SIGKILL
            assert f"Attempt 1 (process {older.pid}) is still running this job" in caplog.text


def test_a_newer_attempt_is_not_disturbed(tmp_path: Path) -> None:
    with holder(tmp_path, "run1", 3) as newer:
        with (
            pytest.raises(StillRunning, match=r"Attempt 3 \(process \d+\) at this job is already running"),
            sole_attempt(tmp_path, "mine", "run1", 2),
        ):
            pass
        assert newer.process.is_alive()


def test_a_child_process_of_an_older_attempt_also_holds_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WAIT_SECONDS", 1.0)
    with holder(tmp_path, "run1", 1, with_a_worker=True) as older:
        with (
            pytest.raises(StillRunning, match=r"Attempt 1 .* in the same folder after a minute"),
            sole_attempt(tmp_path, "mine", "run1", 2),
        ):
            pass
        assert older.status() == -signal.SIGKILL
        os.kill(older.worker, signal.SIGKILL)  # as the watchdog would
    monkeypatch.setattr(module, "_WAIT_SECONDS", 60.0)
    with sole_attempt(tmp_path, "mine", "run1", 2):
        pass


def test_a_process_of_another_container_with_the_same_pid_is_not_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WAIT_SECONDS", 1.0)
    with holder(tmp_path, "run1", 1) as older:
        record = json.loads((tmp_path / "mine").read_text())
        record["process"] = re.sub(r"pid:\[\d+\]", "pid:[1]", record["process"])
        (tmp_path / "mine").write_text(json.dumps(record))
        with (
            pytest.raises(StillRunning, match="is still running in the same folder"),
            sole_attempt(tmp_path, "mine", "run1", 2),
        ):
            pass
        assert older.process.is_alive()


def test_other_jobs_are_not_affected_and_no_file_is_left(tmp_path: Path) -> None:
    with holder(tmp_path, "run1", 1) as other, sole_attempt(tmp_path, "yours", "run2", 1):
        assert other.process.is_alive()
    assert not (tmp_path / "yours").exists()
    # The file that the killed process left does not block the job.
    with sole_attempt(tmp_path, "mine", "run1", 1):
        pass
    assert list(tmp_path.iterdir()) == []
