"""One of the processes that train together: `python -m include.training.rank FD`, started by train_in_ranks.

FD is the file descriptor of this process's end of the connection to the process that started it.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
import time
import traceback
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from include.training.contract import DiskError, MachineUnusable, ProcessKilled, TrainingError, is_disk_error
from include.training.distributed import RankFailed
from include.training.library_errors import format_error
from include.training.quiet import tame_ultralytics
from include.training.run import SilentReporter

if TYPE_CHECKING:
    from include.training.contract import EpochReport, SavedState, TrainingProgress
    from include.training.distributed import Answer, RankWork

_PROGRESS_SECONDS = 0.5


class _Parent(QueueHandler):
    """The process that started this one; it receives log records, epochs and states.

    It is a logging handler, an EpochReporter and a StateReporter. When it dies or closes the connection, this
    process kills itself and its loader workers.
    """

    def __init__(self, connection: Connection[Any, Any]) -> None:
        super().__init__(SimpleQueue())
        self._connection = connection
        self._sending = threading.Lock()
        self._go_on: SimpleQueue[bool] = SimpleQueue()
        self._taken: SimpleQueue[bool] = SimpleQueue()
        self._state_wanted = threading.Event()
        self._reported_at = -math.inf
        self._thread = threading.Thread(target=self._listen, daemon=True)
        # A loader worker that held the connection would hide the death of this process from the parent.
        os.register_at_fork(after_in_child=self._forget)
        self._thread.start()

    def send(self, message: object) -> None:
        """Send a message to the parent."""
        with self._sending:
            self._connection.send(message)

    def enqueue(self, record: logging.LogRecord) -> None:
        """Send the record to the parent, which logs it."""
        self.send(record)

    def report(self, epoch: EpochReport) -> bool:
        """Report the epoch to the parent, and wait for its answer."""
        self.send(epoch)
        return self._go_on.get()

    def report_progress(self, progress: TrainingProgress) -> bool:
        """Report progress to the parent about twice a second; return whether it has requested a state."""
        now = time.monotonic()
        if now >= self._reported_at + _PROGRESS_SECONDS or progress.batch == progress.batches:
            self._reported_at = now
            self.send(progress)
        wanted = self._state_wanted.is_set()
        self._state_wanted.clear()
        return wanted

    def report_state(self, state: SavedState) -> None:
        """Report the state to the parent, and wait until the parent no longer needs the file."""
        self.send(state)
        self._taken.get()

    def wait_to_be_killed(self) -> None:
        """Wait for the parent to kill this process; exiting first would count as a failure."""
        self._thread.join()

    def _listen(self) -> None:
        try:
            while True:
                self._take(self._connection.recv())
        except (EOFError, OSError):
            os.killpg(0, signal.SIGKILL)

    def _take(self, answer: Answer) -> None:
        if answer.should_continue is not None:
            self._go_on.put(answer.should_continue)
        if answer.has_taken_state:
            self._taken.put(True)
        if answer.should_save:
            self._state_wanted.set()

    def _forget(self) -> None:
        logging.getLogger().removeHandler(self)
        self._connection.close()


def main() -> None:
    """Train; send the parent the error or, as rank 0, the result; then wait to be killed."""
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    os.set_inheritable(connection.fileno(), False)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the parent decides whether training ends
    work: RankWork = connection.recv()
    rank, parent = int(os.environ["RANK"]), _Parent(connection)
    parent.setLevel(logging.INFO if rank == 0 else logging.ERROR)  # the other ranks log the same messages
    logging.getLogger().setLevel(logging.INFO)
    logging.getLogger().addHandler(parent)
    tame_ultralytics()
    try:
        if rank == 0:
            parent.send(work.plan.train(parent, parent if work.saves_states else None))
        else:  # rank 0 reports for all ranks, and tells the others when to stop
            work.plan.train(SilentReporter())
    except (TrainingError, MachineUnusable, ProcessKilled) as error:
        parent.send(error)
    except BaseException as error:
        failure = _describe(error, rank)
        failure.add_note(traceback.format_exc())
        parent.send(failure)
    parent.wait_to_be_killed()


def _describe(error: BaseException, rank: int) -> Exception:
    """Return the error for the parent.

    A disk error keeps its class, because training may continue on a machine with more disk space.
    """
    if isinstance(error, DiskError):
        return error
    if isinstance(error, OSError) and is_disk_error(error):
        # Not the error itself: a library's subclass of OSError may not be picklable.
        return OSError(error.errno, f"Rank {rank} failed: {error.strerror}", error.filename)
    return RankFailed(f"Rank {rank} failed with {type(error).__name__}: {format_error(error)}")


if __name__ == "__main__":
    main()
