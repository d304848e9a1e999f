"""When a process of the local stack counts as ended."""

from __future__ import annotations

import subprocess
import sys

import psutil

from include.stack.processes import has_ended
from tests.support.waiting import until

FIRST_THREAD_ENDS = """
import ctypes, sys, threading
threading.Thread(target=sys.stdin.read).start()
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_process_whose_first_thread_has_ended_is_still_running() -> None:
    """Linux calls it a zombie, but its other threads still hold its files and ports."""
    child = subprocess.Popen([sys.executable, "-c", FIRST_THREAD_ENDS], stdin=subprocess.PIPE)
    process = psutil.Process(child.pid)
    try:
        until(lambda: process.status() == psutil.STATUS_ZOMBIE)
        assert not has_ended(process)
    finally:
        child.communicate()  # lets the other thread end
    assert has_ended(process)


def test_a_process_that_nobody_has_reaped_has_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    process = psutil.Process(child.pid)
    until(lambda: process.status() == psutil.STATUS_ZOMBIE)
    assert has_ended(process)
    child.wait()
