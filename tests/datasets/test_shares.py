"""A loop over many files is divided among processes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from include.datasets.confinement import run_confined
from include.datasets.errors import DatasetError
from include.datasets.shares import share_out

PROCESSES = 3


def squares(count: int, processes: int) -> list[list[int]]:
    def work(numbers: range) -> Iterator[tuple[int, int]]:
        yield from ((os.getpid(), number**2) for number in numbers)

    return [list(each) for each in share_out(work, count, processes)]


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_each_number_is_processed_once(count: int) -> None:
    found = run_confined(squares, count, PROCESSES, source="data")
    assert sorted(square for _, square in found) == [number**2 for number in range(count)]
    assert len({process for process, _ in found}) == min(count, PROCESSES)


def test_a_single_share_runs_in_the_same_process() -> None:
    assert squares(3, 1) == [[os.getpid(), 0], [os.getpid(), 1], [os.getpid(), 4]]


def one_ends_in_the_middle_of_a_file() -> None:
    def work(numbers: range) -> Iterator[int]:
        if not numbers.start:
            raise EOFError("the file is truncated")
        yield from numbers

    list(share_out(work, PROCESSES, PROCESSES))


def test_an_unexpected_end_of_a_file_is_an_error_like_any_other() -> None:
    with pytest.raises(DatasetError, match="EOFError"):
        run_confined(one_ends_in_the_middle_of_a_file, source="data")


def one_fails(file: str) -> None:
    """Raise an error in one process while the other processes wait for ever."""

    def work(numbers: range) -> Iterator[int]:
        while numbers.start:
            signal.pause()
        with open(file) as opened:  # noqa: PTH123
            yield len(opened.read())

    list(share_out(work, PROCESSES, PROCESSES))


def test_an_error_in_one_process_ends_all_processes() -> None:
    with pytest.raises(OSError, match="Input/output error"):
        run_confined(one_fails, "/proc/self/mem", source="data")


def one_is_killed() -> None:
    def work(numbers: range) -> Iterator[int]:
        while numbers.start:
            signal.pause()
        os.kill(os.getpid(), signal.SIGKILL)
        yield 0

    list(share_out(work, PROCESSES, PROCESSES))


def test_a_killed_process_is_reported_as_if_all_of_them_were_killed() -> None:
    with pytest.raises(DatasetError, match=r"was killed \(SIGKILL\), most likely because memory ran out"):
        run_confined(one_is_killed, source="data")


def one_is_killed_while_it_sends() -> None:
    begin, beginning = os.pipe()

    def work(numbers: range) -> Iterator[bytes]:
        if numbers.start:
            yield b"this process is not killed"
            signal.pause()
        os.read(begin, 1)
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGKILL)).start()
        yield bytes(2**20)  # more than a pipe holds, and nobody reads it

    found = share_out(work, 2, 2)
    next(found)
    os.write(beginning, b"x")
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    list(found)


def test_a_process_that_is_killed_while_it_sends_a_result_is_reported_as_killed() -> None:
    with pytest.raises(DatasetError, match=r"was killed \(SIGKILL\), most likely because memory ran out"):
        run_confined(one_is_killed_while_it_sends, source="data")


def the_first_is_killed(pids: str) -> None:
    def work(numbers: range) -> Iterator[int]:
        yield os.getpid()
        while numbers:
            signal.pause()

    found = share_out(work, PROCESSES, PROCESSES)
    Path(pids).write_text(" ".join(str(next(found)) for _ in range(PROCESSES)))
    os.kill(os.getpid(), signal.SIGKILL)


def test_no_process_outlives_its_parent(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="SIGKILL"):
        run_confined(the_first_is_killed, str(tmp_path / "pids"), source="data")
    pids = list(map(int, (tmp_path / "pids").read_text().split()))
    assert len(pids) == PROCESSES
    processes = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):  # it has ended already
            processes.append(psutil.Process(pid))
    assert not psutil.wait_procs(processes, timeout=30)[1]
