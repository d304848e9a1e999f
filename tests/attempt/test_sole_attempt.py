"""An attempt that Airflow wrongly considers dead is killed before the next one begins."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from include.attempt import sole_attempt as module
from include.attempt.sole_attempt import StillRunning, sole_attempt

HOLDS = """
import os, sys, time
from pathlib import Path
from airflow.sdk.execution_time.supervisor import _make_process_nondumpable
from include.attempt.sole_attempt import sole_attempt
_make_process_nondumpable()
with sole_attempt(Path(sys.argv[1]), "mine", sys.argv[2], int(sys.argv[3])):
    if sys.argv[4:] == ["with-a-worker"] and (worker := os.fork()):
        print(worker, flush=True)
    elif not sys.argv[4:]:
        print("holds", flush=True)
    time.sleep(600)
"""


@contextmanager
def holder(locks: Path, run_id: str, attempt: int, *how: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process that holds the job; it prints a line once it does."""
    command = [sys.executable, "-c", HOLDS, str(locks), run_id, str(attempt), *how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("run_id", ["run1", "run0"])
@pytest.mark.parametrize("stopped", [True, False])
def test_an_older_attempt_is_killed_whether_suspended_or_running(
    run_id: str, stopped: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with holder(tmp_path, run_id, 1) as older:
        assert said(older) == "holds"
        if stopped:
            older.send_signal(signal.SIGSTOP)
        with caplog.at_level(logging.WARNING), sole_attempt(tmp_path, "mine", "run1", 2):
            assert older.wait() == -signal.SIGKILL
            assert f"Attempt 1 (process {older.pid}) is still running this job" in caplog.text


def test_a_newer_attempt_is_left_alone(tmp_path: Path) -> None:
    with holder(tmp_path, "run1", 3) as newer:
        assert said(newer) == "holds"
        with (
            pytest.raises(StillRunning, match=r"Attempt 3 \(process \d+\) at this job is already running"),
            sole_attempt(tmp_path, "mine", "run1", 2),
        ):
            pass
        assert newer.poll() is None


def test_a_child_process_of_an_older_attempt_holds_the_job_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WAIT_SECONDS", 1.0)
    with holder(tmp_path, "run1", 1, "with-a-worker") as older:
        worker = int(said(older))
        with (
            pytest.raises(StillRunning, match=r"Attempt 1 .* does not end"),
            sole_attempt(tmp_path, "mine", "run1", 2),
        ):
            pass
        assert older.wait() == -signal.SIGKILL
        os.kill(worker, signal.SIGKILL)  # as the watchdog would
    monkeypatch.setattr(module, "_WAIT_SECONDS", 60.0)
    with sole_attempt(tmp_path, "mine", "run1", 2):
        pass


def test_a_process_of_another_container_with_the_same_pid_is_not_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WAIT_SECONDS", 1.0)
    with holder(tmp_path, "run1", 1) as older:
        assert said(older) == "holds"
        told = json.loads((tmp_path / "mine").read_text())
        told["process"] = re.sub(r"pid:\[\d+\]", "pid:[1]", told["process"])
        (tmp_path / "mine").write_text(json.dumps(told))
        with (
            pytest.raises(StillRunning, match="is still running in the same folder"),
            sole_attempt(tmp_path, "mine", "run1", 2),
        ):
            pass
        assert older.poll() is None


def test_other_jobs_are_left_alone_and_no_file_stays_behind(tmp_path: Path) -> None:
    with holder(tmp_path, "run1", 1) as other:
        assert said(other) == "holds"
        with sole_attempt(tmp_path, "yours", "run2", 1):
            assert other.poll() is None
    assert not (tmp_path / "yours").exists()
    # The file that the killed process left does not block the job.
    with sole_attempt(tmp_path, "mine", "run1", 1):
        pass
    assert list(tmp_path.iterdir()) == []
