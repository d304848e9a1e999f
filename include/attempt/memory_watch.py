"""Notices growing memory use, so that the attempt can end and be retried before the kernel kills it."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Self

import psutil

from include.training.memory_limit import read_memory_limit

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

_CHECK_SECONDS = 10.0

_USABLE_FRACTION = 0.92
"""Fraction of the memory limit that an attempt may use."""

_GROWN_FRACTION = 0.1
"""A restart helps only if memory use has grown by this fraction of the limit since the first batch."""

_LEAST_SECONDS = 300.0
"""No restart is requested until this long after the first batch: at first, memory use always grows."""

_PSS = re.compile(rb"^Pss:\s+(\d+) kB", re.MULTILINE)
_GIB = 1024**3


class MemoryWatch:
    """Adds up the memory of this process and its descendants every ten seconds, in a thread.

    The first check follows the first batch. Shared pages count once. Forked processes report their own
    memory: Airflow makes its task processes non-dumpable, and the kernel shows the memory of a non-dumpable
    process only to that process and to root.

    `limit` is the memory of the machine or its container, in bytes. The memory use at the first check after
    `note_start` is considered normal. In the first `least_seconds` after `note_start`, a shortage is only
    logged.
    """

    def __init__(self, limit: int | None = None, least_seconds: float = _LEAST_SECONDS) -> None:
        self._limit = read_memory_limit() if limit is None else limit
        self._least_seconds = least_seconds
        self._started: float | None = None
        self._first: int | None = None
        self._has_warned = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)
        self.used = 0
        """Memory use in bytes at the last check."""
        self.shortage: str | None = None
        """Why this attempt has to end, as a sentence; None as long as it may continue."""

    def __enter__(self) -> Self:
        self._reports = TemporaryDirectory(
            prefix="training-memory-",
            ignore_cleanup_errors=True,  # a worker may be writing its report
        )
        _Reports.collect_in(Path(self._reports.name))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()
        _Reports.folder = None
        self._reports.cleanup()

    def note_start(self) -> None:
        """Record that the first batch has been trained: cached images are in memory now."""
        if self._started is None:
            self._started = time.monotonic()

    def check(self) -> None:
        """Measure memory use after the first batch; if memory is short, set `shortage` or log a warning."""
        if self._started is None or self.shortage is not None:
            return
        self.used = used = sum(_find_pss(process) for process in _list_family())
        if self._first is None:
            self._first = used
        if used < _USABLE_FRACTION * self._limit:
            return
        figures = f"{used / _GIB:.1f} GiB of {self._limit / _GIB:.1f} GiB"
        grown = used - self._first
        elapsed = time.monotonic() - self._started
        if grown >= _GROWN_FRACTION * self._limit and elapsed >= self._least_seconds:
            self.shortage = (
                f"This attempt and its loader workers use {figures}, {grown / _GIB:.1f} GiB more than "
                "when training started. The attempt saves its state and ends before the kernel kills it; the "
                "next attempt starts with free memory. If this recurs, set fewer workers, or set cache to "
                "false or disk"
            )
        elif not self._has_warned:
            self._has_warned = True
            log.warning(
                "This attempt uses %s: the kernel may kill it. Set a smaller batch or fewer workers, or set "
                "cache to false or disk.",
                figures,
            )

    def _run(self) -> None:
        while not self._closed.wait(_CHECK_SECONDS):
            self.check()


def _list_family() -> Iterator[psutil.Process]:
    own = psutil.Process()
    yield own
    with suppress(psutil.Error):
        yield from own.children(recursive=True)


def _find_pss(process: psutil.Process) -> int:
    """Return the proportional set size in bytes; 0 if the process has ended or cannot be inspected."""
    reported = _Reports.read(process.pid)
    return _read_pss(process.pid) if reported is None else reported


def _read_pss(pid: int) -> int:
    try:
        found = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_bytes())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


class _Reports:
    """Reports of forked processes about their own memory use, each in a file named after its process id."""

    folder: Path | None = None
    """The folder for these files; None if no process is to report."""
    is_inherited = False
    """Whether os.register_at_fork was called, so that forked processes report while `folder` is set."""

    @classmethod
    def collect_in(cls, folder: Path) -> None:
        """Make every process that is forked from now on write its reports to `folder`."""
        cls.folder = folder
        if not cls.is_inherited:
            os.register_at_fork(after_in_child=cls._report_in_thread)
            cls.is_inherited = True

    @classmethod
    def read(cls, pid: int) -> int | None:
        """Return the number of bytes that the process has reported; None if there is no report."""
        if cls.folder is None:
            return None
        try:
            return int((cls.folder / str(pid)).read_text())
        except (OSError, ValueError):
            return None

    @classmethod
    def _report_in_thread(cls) -> None:
        if cls.folder is not None:
            threading.Thread(target=cls._report, args=(cls.folder,), name="memory", daemon=True).start()

    @staticmethod
    def _report(folder: Path) -> None:
        """Write the memory use of this process repeatedly, until the folder is gone."""
        own = folder / str(os.getpid())
        part = own.with_suffix(".part")
        with suppress(OSError):
            while True:
                part.write_text(str(_read_pss(os.getpid())))
                part.replace(own)
                time.sleep(_CHECK_SECONDS)
