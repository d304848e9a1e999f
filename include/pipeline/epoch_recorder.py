"""The epochs of a training go into the database beside the training, which never waits long for it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Self

from include.pipeline.patience import database_errors

if TYPE_CHECKING:
    from include.pipeline.epochs import JobRecord
    from include.training.contract import EpochReport

log = logging.getLogger(__name__)

_ANSWER_SECONDS = 5.0
"""How long the training waits for an epoch to be recorded, while the database answers at all."""

_RETRY_SECONDS = 15.0
"""What could not be written is tried again with the next epoch, or after this time: epochs may take hours."""


class EpochRecorder:
    """Writes epochs to the database as they finish, in a thread of its own.

    A database that is away, or hangs, does not stop a training: the epochs wait, and the training waits for
    none of them until one was written again. What ends the training is OwnershipLost: another run or attempt
    owns the job now. As a context manager it writes nothing more when the block has ended.
    """

    def __init__(self, row: JobRecord) -> None:
        self._row = row
        self._changed = threading.Condition()  # guards everything below
        self._waiting: deque[EpochReport] = deque()
        self._tries = 0
        self._asked = self._over = self._stop = False
        self._problem: Exception | None = None
        self._error: Exception | None = None
        self._inexact_reason: str | None = None
        self._thread = threading.Thread(target=self._run, name="epochs", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def record(self, epoch: EpochReport) -> bool:
        """Have `epoch` written, and those that still wait; returns whether the job is to stop.

        While the database does not answer that is not known, and False. Raises OwnershipLost, also for an
        earlier epoch.
        """
        with self._changed:
            self._waiting.append(epoch)
            self._ask()
            if self._problem is None:
                settled = self._changed.wait_for(lambda: not self._waiting or self._failed, _ANSWER_SECONDS)
                if not settled:
                    self._complain(TimeoutError(f"no answer for {_ANSWER_SECONDS:g} s"))
            self._raise_error()
            return self._stop

    def flush(self) -> bool:
        """Write the epochs that still wait; returns whether the job is to stop. Raises what psycopg does."""
        with self._changed:
            before = self._tries
            self._ask()
            self._changed.wait_for(lambda: not self._waiting or self._error or self._tries > before)
            self._raise_error()
            if self._waiting and self._problem is not None:
                raise self._problem
            return self._stop

    @property
    def _failed(self) -> bool:
        return self._problem is not None or self._error is not None

    def _ask(self) -> None:
        self._asked = True
        self._changed.notify_all()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (epoch := self._next()) is not None:
            try:
                stop = self._write(epoch)
            except database_errors() as error:
                with self._changed:
                    self._tries += 1
                    self._complain(error)
                    self._changed.notify_all()
            except Exception as error:  # raised to the training, whatever it is
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return
            else:
                with self._changed:
                    self._stop = stop
                    self._waiting.popleft()
                    self._recover()
                    self._changed.notify_all()

    def _next(self) -> EpochReport | None:
        """Wait for something to write, and after a failure for the time to try again; None at the end."""
        with self._changed:
            if self._problem is not None:
                self._changed.wait_for(lambda: self._asked or self._over, _RETRY_SECONDS)
            self._changed.wait_for(lambda: self._waiting or self._over)
            self._asked = False
            return None if self._over else self._waiting[0]

    def _write(self, epoch: EpochReport) -> bool:
        stop = self._row.epoch(epoch)
        if epoch.inexact_reason is not None and epoch.inexact_reason != self._inexact_reason:
            self._row.inexact(epoch.inexact_reason)
            self._inexact_reason = epoch.inexact_reason
        return stop

    def _complain(self, error: Exception) -> None:
        """Say so once, and not for each epoch that waits."""
        if self._problem is None:
            log.warning(
                "The training database does not answer (%s). The training goes on; its epochs are recorded "
                "when the database is back.",
                str(error).strip(),
            )
        self._problem = error

    def _recover(self) -> None:
        if self._problem is not None:
            log.info("The training database answers again; the epochs that waited are recorded now.")
            self._problem = None
