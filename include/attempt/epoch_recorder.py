"""Records epochs and progress in a separate thread, so that training never waits long for the database."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Self

from include.deployment.retrying import is_transient
from include.jobs.job import StopRequest
from include.training.contract import TrainingProgress

if TYPE_CHECKING:
    from include.attempt.job_record import JobRecord
    from include.training.contract import EpochReport

log = logging.getLogger(__name__)

_ANSWER_SECONDS = 5.0
"""How long training waits for an epoch to be recorded before it considers the database unavailable."""

_PROGRESS_SECONDS = 10.0
"""Interval at which progress within an epoch is recorded and a request to stop immediately is noticed."""

_RETRY_SECONDS = 15.0
"""A failed write is retried when the next epoch ends, but at the latest after this time."""


class EpochRecorder:
    """Writes epochs to the database as they finish, in a separate thread.

    A database that is down or hangs does not stop training. Epochs are queued, and training waits for the
    database again only after a write has succeeded. Training never waits for progress to be recorded. Any
    error other than an outage ends training, for example OwnershipLost if another run or attempt owns the
    job. Use the recorder as a context manager: it stops writing at the end of the block.
    """

    def __init__(self, row: JobRecord) -> None:
        self._row = row
        self._changed = threading.Condition()  # guards all attributes below
        self._waiting: deque[EpochReport] = deque()
        self._tries = 0
        self._progress: TrainingProgress | None = None
        self._progress_due = time.monotonic() + _PROGRESS_SECONDS
        self._stop = StopRequest.NONE
        self._wake_requested = self._is_closed = False
        self._problem: Exception | None = None
        self._error: Exception | None = None
        self._inexact_reason: str | None = None
        self._thread = threading.Thread(target=self._run, name="epochs", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def record(self, epoch: EpochReport) -> bool:
        """Record `epoch` and the queued epochs; return whether the job should stop.

        While the database does not respond, this returns the last known answer. Raises OwnershipLost, even if
        it occurred while an earlier epoch was being written.
        """
        with self._changed:
            self._waiting.append(epoch)
            self._wake_writer()
            if self._problem is None:
                settled = self._changed.wait_for(
                    lambda: not self._waiting or self._problem or self._error, _ANSWER_SECONDS
                )
                if not settled:
                    self._report_outage(TimeoutError(f"no response for {_ANSWER_SECONDS:g} s"))
            self._raise_error()
            return self._stop is not StopRequest.NONE

    def record_progress(self, progress: TrainingProgress) -> StopRequest:
        """Queue `progress` for recording; return the last known stop request.

        Raises OwnershipLost.
        """
        with self._changed:
            self._progress = progress
            if time.monotonic() >= self._progress_due:
                self._changed.notify_all()
            self._raise_error()
            return self._stop

    def flush(self) -> bool:
        """Write the queued epochs; return whether the job should stop.

        Raises psycopg's errors and OwnershipLost.
        """
        with self._changed:
            before = self._tries
            self._wake_writer()
            self._changed.wait_for(
                lambda: not self._waiting or self._error or (self._problem and self._tries > before)
            )
            self._raise_error()
            if self._waiting and self._problem is not None:
                raise self._problem
            return self._stop is not StopRequest.NONE

    def _wake_writer(self) -> None:
        self._wake_requested = True
        self._changed.notify_all()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (entry := self._take_next()) is not None:
            try:
                stop = self._write(entry)
            except Exception as error:
                with self._changed:
                    self._changed.notify_all()
                    if not is_transient(error):
                        self._error = error  # the training thread raises it
                        return
                    self._tries += 1
                    self._report_outage(error)
            else:
                with self._changed:
                    self._stop = stop
                    if self._waiting and self._waiting[0] is entry:
                        self._waiting.popleft()
                    self._report_recovery()
                    self._changed.notify_all()

    def _take_next(self) -> EpochReport | TrainingProgress | None:
        """Return the next entry to write, after a pause if the last write failed; None once closed."""
        with self._changed:
            if self._problem is not None:
                self._changed.wait_for(lambda: self._wake_requested or self._is_closed, _RETRY_SECONDS)
            self._changed.wait_for(lambda: self._waiting or self._is_closed or self._is_progress_due)
            self._wake_requested = False
            if self._is_closed:
                return None
            if self._waiting:
                return self._waiting[0]
            progress, self._progress = self._progress, None
            self._progress_due = time.monotonic() + _PROGRESS_SECONDS
            return progress

    @property
    def _is_progress_due(self) -> bool:
        return self._progress is not None and time.monotonic() >= self._progress_due

    def _write(self, entry: EpochReport | TrainingProgress) -> StopRequest:
        if isinstance(entry, TrainingProgress):
            return self._row.record_progress(entry)
        stop = self._row.record_epoch(entry)
        if entry.inexact_reason is not None and entry.inexact_reason != self._inexact_reason:
            self._row.record_inexact(entry.inexact_reason)
            self._inexact_reason = entry.inexact_reason
        return stop

    def _report_outage(self, error: Exception) -> None:
        """Log the outage once, not for every queued epoch."""
        if self._problem is None:
            log.warning(
                "The training database does not respond (%s). Training continues; its epochs are recorded "
                "when the database is back.",
                str(error).strip(),
            )
        self._problem = error

    def _report_recovery(self) -> None:
        if self._problem is not None:
            log.info("The training database responds again; the queued epochs are being recorded.")
            self._problem = None
