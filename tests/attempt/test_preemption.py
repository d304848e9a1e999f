"""A real SIGTERM ends a training process with an error, and cannot interrupt the drain."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from include.attempt.preemption import Preempted, handle_sigterm

ROOT = Path(__file__).parents[2]


def _ask_to_stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_ends_the_block_even_in_code_that_catches_every_exception() -> None:
    steps: list[str] = []

    def train() -> None:
        with handle_sigterm():
            try:
                _ask_to_stop()
            except Exception:
                steps.append("swallowed, as Ultralytics does")
            steps.append("went on")

    with pytest.raises(Preempted, match="resumes from the last durable state"):
        train()
    assert steps == []


def test_further_signals_do_not_interrupt_the_drain() -> None:
    steps: list[str] = []

    def train() -> None:
        with handle_sigterm() as termination:
            try:
                _ask_to_stop()
            finally:
                _ask_to_stop()
                with termination.deferred():
                    _ask_to_stop()
                steps.append("drained")

    with pytest.raises(Preempted):
        train()
    assert steps == ["drained"]


def test_the_former_handler_is_restored_afterwards() -> None:
    received: list[int] = []
    former = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with handle_sigterm():
            pass
        _ask_to_stop()
        with pytest.raises(Preempted), handle_sigterm():
            _ask_to_stop()
        _ask_to_stop()
    finally:
        signal.signal(signal.SIGTERM, former)
    assert received == [signal.SIGTERM, signal.SIGTERM]


def test_a_deferred_step_is_finished_first() -> None:
    steps: list[str] = []

    def train() -> None:
        with handle_sigterm() as termination:
            with termination.deferred():
                with termination.deferred():
                    _ask_to_stop()
                    steps.append("inner")
                steps.append("outer")
            steps.append("went on")

    with pytest.raises(Preempted):
        train()
    assert steps == ["inner", "outer"]


def test_a_swallowed_preemption_is_raised_again_by_check() -> None:
    steps: list[str] = []

    def train() -> None:
        with handle_sigterm() as termination:
            termination.check()
            with suppress(BaseException):
                _ask_to_stop()
            steps.append("went on")
            assert termination.is_requested
            termination.check()

    with pytest.raises(Preempted):
        train()
    assert steps == ["went on"]


def test_an_error_after_the_signal_becomes_the_cause_of_the_preemption() -> None:
    def train() -> None:
        with handle_sigterm():
            try:
                _ask_to_stop()
            finally:
                raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Terminated.")

    with pytest.raises(Preempted) as raised:
        train()
    assert isinstance(raised.value.__cause__, RuntimeError)


def test_an_error_without_the_signal_is_raised_unchanged() -> None:
    with pytest.raises(RuntimeError, match="out of memory"), handle_sigterm():
        raise RuntimeError("out of memory")


def test_handling_sigterm_outside_of_the_main_thread_is_refused() -> None:
    with ThreadPoolExecutor(1) as threads, pytest.raises(RuntimeError, match="Call it in the main thread"):
        threads.submit(handle_sigterm().__enter__).result()


def _run(code: str) -> subprocess.Popen[str]:
    """Start a separate process that runs `code`; its output can be read line by line."""
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, text=True
    )


def _read(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


FORKING = """
import os, time
from include.attempt import preemption
from include.attempt.preemption import Preempted, handle_sigterm
try:
    with handle_sigterm():
        child = os.fork()
        if not child:
            # The child itself prints its id: Python loses a signal that arrives before fork() returns in it.
            print(os.getpid(), flush=True)
            try:
                time.sleep(60)
            finally:
                print("the child ran code of its parent", flush=True)
        print(os.WTERMSIG(os.waitpid(child, 0)[1]), flush=True)
        time.sleep(60)
except Preempted:
    print("preempted", flush=True)
"""


def test_a_forked_child_dies_of_the_signal_and_raises_nothing() -> None:
    with _run(FORKING) as process:
        os.kill(int(_read(process)), signal.SIGTERM)
        assert int(_read(process)) == signal.SIGTERM
        process.terminate()
        assert _read(process) == "preempted"
    assert process.returncode == 0


LOADING = """
import os
import time
from torch.utils.data import DataLoader
from include.attempt import preemption
from include.attempt.preemption import Preempted, handle_sigterm

class Slow(list):
    def __getitem__(self, index):
        os.write(1, f"{index}\\n".encode())  # a single write, because two workers write at once
        time.sleep(60)

try:
    with handle_sigterm():
        next(iter(DataLoader(Slow(range(8)), num_workers=2)))
except Preempted as preempted:
    time.sleep(1)  # meanwhile the workers die, which torch would raise as an error
    print("preempted", flush=True)
"""


def test_a_signal_to_the_process_group_ends_the_loader_workers_without_an_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", LOADING], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    with process:
        assert {_read(process), _read(process)} == {"0", "1"}
        workers = psutil.Process(process.pid).children()
        os.killpg(process.pid, signal.SIGTERM)
        assert _read(process) == "preempted"
    assert process.returncode == 0
    assert not [worker for worker in workers if worker.is_running()]


ORPHAN = """
import os, time
from include.attempt import preemption
from include.attempt.preemption import Preempted, handle_sigterm
if os.fork():
    time.sleep(60)
try:
    with handle_sigterm():
        print(os.getppid(), flush=True)
        time.sleep(60)
except Preempted:
    print("preempted", flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux notifies a process of its parent's death")
def test_a_training_process_ends_when_its_supervisor_dies() -> None:
    with _run(ORPHAN) as process:
        os.kill(int(_read(process)), signal.SIGKILL)
        assert _read(process) == "preempted"


def test_a_signal_that_waits_for_a_batch_is_not_raised_after_training_has_ended() -> None:
    received: list[int] = []
    former = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with handle_sigterm() as termination:
            termination.await_batch()
            _ask_to_stop()
            assert termination.is_requested
            again = termination._again  # the timer that would send the signal again
            assert again is not None
            assert again.is_alive()
        assert not again.is_alive()
    finally:
        signal.signal(signal.SIGTERM, former)
    assert received == []
