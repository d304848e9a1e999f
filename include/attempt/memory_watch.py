"""Notices that an attempt grows until the kernel would kill it, and lets it begin again before that."""

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

from include.training.memory_limit import memory_limit

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

_CHECK_SECONDS = 10.0

_FULL = 0.92
"""Share of the limit that an attempt may use itself."""

_GROWN = 0.1
"""A new attempt has room again where this one has grown by so much of the limit since it began to train, """

_LEAST_SECONDS = 300.0
"""and in more than a moment: else it would begin again and again."""

_PSS = re.compile(rb"^Pss:\s+(\d+) kB", re.MULTILINE)
_GIB = 1024**3


class MemoryWatch:
    """Adds up what this process and all that it has started use, every ten seconds, in a thread.

    Pages that several share count once. What it forks reports its own use: Airflow makes its tasks
    undumpable, and the kernel shows the memory of such a process to itself and to root alone.

    limit is that of the machine or its container, in bytes. What was used when it began to train, with
    `begin`, is what is usual; growth within least_seconds is, too.
    """

    def __init__(self, limit: int | None = None, least_seconds: float = _LEAST_SECONDS) -> None:
        self._limit = memory_limit() if limit is None else limit
        self._least_seconds = least_seconds
        self._started: float | None = None
        self._first: int | None = None
        self._warned = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)
        self.used = 0
        """Bytes, when it was looked last."""
        self.shortage: str | None = None
        """The sentence that says that this attempt is to end, once it is."""

    def __enter__(self) -> Self:
        self._reports = TemporaryDirectory(prefix="training-memory-")
        _Reports.collect_in(Path(self._reports.name))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        _Reports.folder = None
        self._reports.cleanup()

    def note_start(self) -> None:
        """Note that the first batch is trained: images that are kept in memory are loaded by then."""
        if self._started is None:
            self._started = time.monotonic()

    def check(self) -> None:
        """Find out whether memory is short."""
        if self._started is None or self.shortage is not None:
            return
        self.used = used = sum(_pss(process) for process in _family())
        if self._first is None:
            self._first = used
        if used < _FULL * self._limit:
            return
        figures = f"{used / _GIB:.1f} GiB of {self._limit / _GIB:.1f} GiB"
        grown = used - self._first
        since = time.monotonic() - self._started
        if grown >= _GROWN * self._limit and since >= self._least_seconds:
            self.shortage = (
                f"This attempt and its loader workers use {figures}, {grown / _GIB:.1f} GiB more than when "
                "it began to train: before the kernel kills it, its state is saved, and the next one begins "
                "with room again. Where that recurs, give fewer workers, or cache=false or disk"
            )
        elif not self._warned:
            self._warned = True
            log.warning(
                "This attempt uses %s, from the beginning: the kernel may kill it. Give a smaller batch, "
                "fewer workers, or cache=false or disk.",
                figures,
            )

    def _run(self) -> None:
        while not self._over.wait(_CHECK_SECONDS):
            self.check()


def _family() -> Iterator[psutil.Process]:
    own = psutil.Process()
    yield own
    with suppress(psutil.Error):
        yield from own.children(recursive=True)


def _pss(process: psutil.Process) -> int:
    """Return its proportional set size in bytes; 0 for one that has ended or is somebody else's."""
    reported = _Reports.read(process.pid)
    return _read_pss(process.pid) if reported is None else reported


def _read_pss(pid: int) -> int:
    try:
        found = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_bytes())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


class _Reports:
    """Where processes that this one forks report their memory, each in a file; None: nowhere."""

    folder: Path | None = None
    inherited = False

    @classmethod
    def collect_in(cls, folder: Path) -> None:
        """Let everything that is forked from now on report into `folder`."""
        cls.folder = folder
        if not cls.inherited:
            os.register_at_fork(after_in_child=cls._report_in_thread)
            cls.inherited = True

    @classmethod
    def read(cls, pid: int) -> int | None:
        """Return what the process has reported, in bytes; None where it has not."""
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
        """Write this process's size until the folder is gone."""
        own = folder / str(os.getpid())
        part = own.with_suffix(".part")
        with suppress(OSError):
            while True:
                part.write_text(str(_read_pss(os.getpid())))
                part.replace(own)
                time.sleep(_CHECK_SECONDS)
