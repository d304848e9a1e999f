"""A process can write the stacks of its threads on request without crashing while the threads run."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import repeat
from multiprocessing.process import BaseProcess
from pathlib import Path

from include.training.stacks import (
    MAIN_STACK_SIGNAL,
    STACKS_SIGNAL,
    disable_stack_dumps,
    enable_stack_dumps,
    locate_stacks_file,
)
from tests.support.waiting import until


def _countdown(number: int) -> Iterator[int]:
    if number:
        yield from _countdown(number - 1)
    yield number


@contextmanager
def _nested(depth: int) -> Iterator[None]:
    with _nested(depth - 1) if depth else nullcontext():
        yield


def _change_stack_for_ever() -> None:
    while True:
        with _nested(8):
            list(_countdown(20))
            time.sleep(0)


def _run_busy_threads(folder: Path) -> None:
    enable_stack_dumps(folder)
    for _ in range(3):
        threading.Thread(target=_change_stack_for_ever, daemon=True).start()
    (folder / "started").touch()
    while True:
        time.sleep(1)


def _wait_in_c(folder: Path) -> None:
    enable_stack_dumps(folder)
    (folder / "started").touch()
    deque(repeat(None), maxlen=0)  # never ends, and holds the interpreter lock as a driver that hangs may


def _wait_in_threads(folder: Path) -> None:
    enable_stack_dumps(folder)
    threading.Thread(target=threading.Event().wait, name="uploads", daemon=True).start()
    (folder / "started").touch()
    while True:
        time.sleep(1)


def _cannot_write_stacks(folder: Path) -> None:
    enable_stack_dumps(folder / "missing")
    (folder / "started").touch()
    while True:
        time.sleep(0.01)
        (folder / "running").touch()


@contextmanager
def _started(program: Callable[[Path], None], folder: Path) -> Iterator[BaseProcess]:
    process = multiprocessing.get_context("forkserver").Process(target=_in_own_group, args=(program, folder))
    process.start()
    assert process.pid is not None
    try:
        until((folder / "started").exists, seconds=60, pause=0.01)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()


def _in_own_group(program: Callable[[Path], None], folder: Path) -> None:
    os.setsid()
    program(folder)


def test_writing_stacks_does_not_crash_a_process_whose_threads_run(tmp_path: Path) -> None:
    # faulthandler crashed this process: with all threads after 15 to 801 signals, with the main thread
    # alone after about 100,000.
    with _started(_run_busy_threads, tmp_path) as process:
        assert process.pid is not None
        for _ in range(1000):
            os.kill(process.pid, STACKS_SIGNAL)
            time.sleep(0.0005)
        assert process.is_alive()


def test_the_main_thread_and_each_named_thread_are_written(tmp_path: Path) -> None:
    with _started(_wait_in_threads, tmp_path) as process:
        assert process.pid is not None
        file = locate_stacks_file(tmp_path, process.pid)
        os.kill(process.pid, STACKS_SIGNAL)
        until(lambda: "Thread uploads" in file.read_text(), seconds=60, pause=0.01)
        main, _, uploads = file.read_text().partition("Thread uploads (most recent call first):\n")
        assert " in _wait_in_threads" in main
        assert " in wait" in uploads


def test_the_main_thread_is_written_even_if_it_cannot_run_python(tmp_path: Path) -> None:
    with _started(_wait_in_c, tmp_path) as process:
        assert process.pid is not None
        file = locate_stacks_file(tmp_path, process.pid)
        os.kill(process.pid, MAIN_STACK_SIGNAL)
        until(lambda: " in _wait_in_c" in file.read_text(), seconds=60, pause=0.01)


def test_a_process_that_could_open_no_stacks_file_ignores_the_signal(tmp_path: Path) -> None:
    with _started(_cannot_write_stacks, tmp_path) as process:
        assert process.pid is not None
        os.kill(process.pid, STACKS_SIGNAL)
        time.sleep(0.1)
        (tmp_path / "running").unlink(missing_ok=True)
        until((tmp_path / "running").exists, seconds=60, pause=0.01)


def test_the_previous_handler_is_restored(tmp_path: Path) -> None:
    received: list[int] = []
    previous = signal.signal(STACKS_SIGNAL, lambda number, _: received.append(number))
    try:
        enable_stack_dumps(tmp_path)
        enable_stack_dumps(tmp_path)  # as in a single process, where both the task and the trainer call it
        os.kill(os.getpid(), STACKS_SIGNAL)
        assert not received
        assert " in test_the_previous_handler" in locate_stacks_file(tmp_path, os.getpid()).read_text()
        disable_stack_dumps()
        os.kill(os.getpid(), STACKS_SIGNAL)
        assert received == [STACKS_SIGNAL]
    finally:
        signal.signal(STACKS_SIGNAL, previous)
