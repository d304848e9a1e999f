"""The process that parses untrusted files has limits and no passwords, and never outlives its task."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from include import limits
from include.datasets.confinement import ConfinedProcessEnded, ProcessLimits, run_confined
from include.datasets.disk import translate_disk_errors
from include.datasets.errors import DatasetError, DatasetNotHere, ReaderKilled
from include.trusted_folders import UntrustedFolder, require_trusted_folder
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
CONFINED: dict[str, tuple[Callable[..., Any], tuple[str | int, ...], ProcessLimits, str]] = {
    "memory": (bytearray, (5 * limits.GIB,), ProcessLimits(), "exceeds the limit of 4 GiB of memory"),
    "a file that is gone": (
        shutil.disk_usage,
        ("/nowhere",),
        ProcessLimits(),
        r"an unexpected error occurred \(FileNotFoundError\)",
    ),
    "computing": (
        math.factorial,
        (10**8,),
        ProcessLimits(cpu_seconds=1),
        "made no progress within the limit of 1 s of CPU time",
    ),
    "a crash": (os.abort, (), ProcessLimits(), r"was killed \(SIGABRT\)"),
    "the kernel, for lack of memory": (
        signal.raise_signal,
        (signal.SIGKILL,),
        ProcessLimits(),
        r"was killed \(SIGKILL\), most likely because memory ran out",
    ),
    "what nobody foresaw": (
        json.loads,
        ("{hunter2",),
        ProcessLimits(),
        r"an unexpected error occurred \(JSONDecodeError\)",
    ),
    "recursion": (
        json.loads,
        ("[" * 100_000,),
        ProcessLimits(),
        r"an unexpected error occurred \(RecursionError\)",
    ),
}


@pytest.mark.parametrize("end", CONFINED)
def test_every_end_without_a_result_is_final_and_explained(
    end: str, caplog: pytest.LogCaptureFixture
) -> None:
    function, arguments, process_limits, reason = CONFINED[end]
    with pytest.raises(DatasetError, match=reason) as refused:
        run_confined(function, *arguments, source="s3://bucket/data.zip", limits=process_limits)
    assert "Dataset 's3://bucket/data.zip'" in str(refused.value)
    assert "hunter2" not in str(refused.value) + caplog.text, "no content of the parsed file is quoted"


@pytest.mark.parametrize(("number", "is_kill"), [(signal.SIGKILL, True), (signal.SIGABRT, False)])
def test_a_kill_is_distinguished_from_a_crash(number: signal.Signals, is_kill: bool) -> None:
    with pytest.raises(DatasetError) as refused:
        run_confined(signal.raise_signal, number, source="data")
    assert isinstance(refused.value, ReaderKilled) is is_kill


def test_an_answer_that_is_too_long_is_refused_and_not_mistaken_for_a_kill(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("include.datasets.confinement._LONGEST_MESSAGE", 1024)
    with pytest.raises(DatasetError, match="'data': the process that reads it returned more") as refused:
        run_confined(textwrap.fill, "x" * 1024, source="data")
    assert not isinstance(refused.value, ReaderKilled)


def test_a_process_that_was_asked_to_stop_does_not_blame_the_data() -> None:
    with pytest.raises(ConfinedProcessEnded, match=r"told to stop \(SIGTERM\)"):
        run_confined(signal.raise_signal, signal.SIGTERM, source="data")


def test_a_disk_error_may_be_retried() -> None:
    with pytest.raises(OSError, match="Input/output error"):  # reading this file at offset 0 fails
        run_confined(shutil.copyfile, "/proc/self/mem", os.devnull, source="data")


def test_a_full_disk_is_reported_as_a_problem_of_this_machine() -> None:
    with pytest.raises(DatasetNotHere, match="'data' cannot be stored on this machine: the disk is full"):
        run_confined(shutil.copyfile, "/proc/self/status", "/dev/full", source="data")


def fill_database(folder: str) -> None:
    with closing(sqlite3.connect(Path(folder) / "rows.sqlite")) as database:
        database.execute("PRAGMA max_page_count = 2")
        database.execute("CREATE TABLE rows (number BLOB)")
        database.execute("INSERT INTO rows VALUES (zeroblob(100000))")


def test_a_database_that_fills_the_disk_is_reported_as_a_problem_of_this_machine(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotHere, match="the disk is full; free some space"):
        run_confined(fill_database, str(tmp_path), source="data")
    (tmp_path / "other").mkdir()
    with pytest.raises(DatasetNotHere, match="the disk is full"), translate_disk_errors(tmp_path, "data"):
        fill_database(str(tmp_path / "other"))


def require_trusted(folder: str) -> None:
    require_trusted_folder(Path(folder))


def test_an_untrusted_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files").chmod(0o777)
    with pytest.raises(UntrustedFolder, match=str(tmp_path)):
        run_confined(require_trusted, str(tmp_path / "files"), source="data")


def test_the_process_gets_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    assert run_confined(os.getenv, "AWS_SECRET_ACCESS_KEY", source="data") is None


def test_printed_output_does_not_corrupt_the_result() -> None:
    assert run_confined(print, "hello", source="data") is None
    assert run_confined(os.system, "echo hello", source="data") == 0


def test_the_log_of_the_process_appears_in_the_task_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), pytest.raises(DatasetError, match="an unexpected error occurred"):
        run_confined(shutil.disk_usage, "/nowhere", source="data")
    assert "The check failed with FileNotFoundError" in caplog.text


def compute_with_progress(seconds: float) -> None:
    """Keep the CPU busy, and log a line every tenth of a second."""
    until = time.process_time() + seconds
    while (now := time.process_time()) < until:
        logging.getLogger("progress").info("%.1f of %.1f s", now, seconds)
        while time.process_time() < now + 0.1:
            pass


def test_progress_extends_the_limit_even_if_the_log_level_hides_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        run_confined(compute_with_progress, 3, source="data", limits=ProcessLimits(cpu_seconds=2))
    assert not caplog.text


def _children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def _is_limited(process: int) -> bool:
    """Return whether the process has set its limits; only then does the process call its function."""
    text = Path(f"/proc/{process}/limits").read_text()
    return not re.search(r"Max address space +unlimited", text)


def _is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_the_process_ends_with_the_task(end: signal.Signals) -> None:
    program = (
        "import signal, time; from include.datasets.confinement import run_confined\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # background jobs ignore SIGINT
        "run_confined(time.sleep, 600, source='data')"
    )
    command = [sys.executable, "-X", "faulthandler", "-c", program]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as task:
        until(lambda: _children(task.pid), seconds=60, pause=0.02)
        (confined,) = _children(task.pid)
        until(lambda: _is_limited(confined), seconds=60, pause=0.02)
        task.send_signal(end)
        try:
            task.wait(60)
        except subprocess.TimeoutExpired:
            task.send_signal(signal.SIGABRT)  # faulthandler prints where the task hangs
            pytest.fail(f"the task goes on:\n{task.communicate()[1]}")
    until(lambda: not _is_alive(confined), seconds=60, pause=0.02)
