"""A real SIGTERM to a training process: what is raised where, and what the drain may rely on."""

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

from include.attempt import preemption
from include.attempt.preemption import Preempted, handle_sigterm

ROOT = Path(__file__).parents[2]


def _ask_to_stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_ends_the_block_and_code_that_catches_every_error_does_not_hold_it() -> None:
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


def test_the_drain_is_not_torn_apart_by_further_signals() -> None:
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


def test_the_former_handler_is_back_afterwards() -> None:
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


def test_a_held_step_is_finished_first() -> None:
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


def test_a_preemption_that_was_swallowed_is_raised_again_when_asked_for() -> None:
    steps: list[str] = []

    def train() -> None:
        with handle_sigterm() as termination:
            termination.check()
            with suppress(BaseException):
                _ask_to_stop()
            steps.append("went on")
            assert termination.requested
            termination.check()

    with pytest.raises(Preempted):
        train()
    assert steps == ["went on"]


def test_an_error_after_the_signal_is_a_preemption_with_that_cause() -> None:
    def train() -> None:
        with handle_sigterm():
            try:
                _ask_to_stop()
            finally:
                raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Terminated.")

    with pytest.raises(Preempted) as raised:
        train()
    assert isinstance(raised.value.__cause__, RuntimeError)


def test_an_error_without_the_signal_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="out of memory"), handle_sigterm():
        raise RuntimeError("out of memory")


def test_outside_of_the_main_thread_it_is_refused() -> None:
    with ThreadPoolExecutor(1) as threads, pytest.raises(RuntimeError, match="Call it in the main thread"):
        threads.submit(handle_sigterm().__enter__).result()


def _run(code: str) -> subprocess.Popen[str]:
    """Start a separate process that runs `code`, and whose output can be read line by line."""
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
            # Said by the child itself: Python forgets a signal that comes before fork() has returned there.
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


def test_a_forked_child_ends_by_the_signal_itself_and_raises_nothing() -> None:
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
        os.write(1, f"{index}\\n".encode())  # in one piece, for two of them write at once
        time.sleep(60)

try:
    with handle_sigterm():
        next(iter(DataLoader(Slow(range(8)), num_workers=2)))
except Preempted as preempted:
    time.sleep(1)  # the workers die meanwhile, of which torch makes an error
    print("preempted", flush=True)
"""


def test_a_signal_to_the_whole_group_ends_the_loaders_workers_and_is_no_error() -> None:
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


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_a_training_whose_supervisor_died_does_not_go_on_unseen() -> None:
    with _run(ORPHAN) as process:
        os.kill(int(_read(process)), signal.SIGKILL)
        assert _read(process) == "preempted"


def test_a_signal_that_waits_for_a_batch_is_not_sent_again_when_the_training_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    received: list[int] = []
    monkeypatch.setattr(preemption, "_BATCH_SECONDS", 0.2)
    former = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with handle_sigterm() as termination:
            termination.await_batch()
            _ask_to_stop()
            assert termination.requested
        assert not signal.sigtimedwait([signal.SIGUSR1], 0.5)
    finally:
        signal.signal(signal.SIGTERM, former)
    assert received == []
