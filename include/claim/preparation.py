"""Records how a job's data are being prepared. The job's page shows this before the first epoch.

A large dataset takes minutes to list, fetch and check. The newest progress line in the log is also written
into the job's row, and cleared when the data are ready or refused.
"""

from __future__ import annotations

import logging
import queue
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg

from include.database import make_storable
from include.datasets import progress
from include.jobs.repository import JobRepository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.claim.resolved_job import ResolvedJob
    from include.database import OpenDatabase

log = logging.getLogger(__name__)

_LONGEST_WAIT = 15.0
"""Seconds to wait for a database that does not respond. The start of training clears any remaining line."""


@contextmanager
def show_preparation(job: ResolvedJob, open_database: OpenDatabase) -> Iterator[None]:
    """Copy to the job's row the progress that this block logs.

    If the database is down, only this record is lost.
    """
    recorder = _Recorder(job, open_database)
    progress.log.addHandler(recorder)
    try:
        yield
    finally:
        progress.log.removeHandler(recorder)
        recorder.end()


class _Recorder(logging.Handler):
    """Writes the newest line in its own thread, so that the preparation does not wait for the database."""

    def __init__(self, job: ResolvedJob, open_database: OpenDatabase) -> None:
        super().__init__(logging.INFO)
        self._job, self._open_database = job, open_database
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="preparation", daemon=True)
            self._thread.start()
        self._lines.put(record.getMessage())

    def end(self) -> None:
        """Clear the recorded line, if there is one."""
        if self._thread is not None:
            self._lines.put(None)
            self._thread.join(_LONGEST_WAIT)

    def _write(self) -> None:
        line: str | None = ""
        while line is not None:
            line = self._lines.get()
            while not self._lines.empty():  # only the newest line matters
                line = self._lines.get()
            try:
                with self._open_database() as connection:
                    JobRepository(connection).record_preparation(
                        self._job.job_id, self._job.run_id, line and make_storable(line)
                    )
            except psycopg.Error as error:
                log.info("The progress of the data check could not be recorded in the job's row: %s", error)
