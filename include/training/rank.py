"""One of the processes that train together: `python -m include.training.rank FD`, started by train_in_ranks.

FD is its end of the connection to the process that started it.
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

from include.training.contract import MachineUnusable, ProcessKilled, TrainingError
from include.training.distributed import RankFailed
from include.training.quiet import tame_ultralytics
from include.training.sentences import in_one_line

if TYPE_CHECKING:
    from include.training.contract import EpochReport, Progress, SavedState
    from include.training.distributed import Answer, Work

_PROGRESS_SECONDS = 0.5


class _Parent(QueueHandler):
    """The process that started this one: gets the log, the epochs and the states.

    It is a logging handler, an EpochReporter and a StateReporter. When it is gone, or closes the connection,
    this process is killed with its loader workers.
    """

    def __init__(self, connection: Connection[Any, Any]) -> None:
        super().__init__(SimpleQueue())
        self._connection = connection
        self._sending = threading.Lock()
        self._go_on: SimpleQueue[bool] = SimpleQueue()
        self._taken: SimpleQueue[bool] = SimpleQueue()
        self._state_wanted = threading.Event()
        self._told = -math.inf
        self._thread = threading.Thread(target=self._listen, daemon=True)
        # A loader worker that held the connection would keep the death of this process a secret.
        os.register_at_fork(after_in_child=self._forget)

    def listen(self) -> None:
        """Expect answers from now on."""
        self._thread.start()

    def send(self, message: object) -> None:
        """Tell the parent."""
        with self._sending:
            self._connection.send(message)

    def enqueue(self, record: logging.LogRecord) -> None:
        """Let the parent log it."""
        self.send(record)

    def report(self, epoch: EpochReport) -> bool:
        """Report to the parent, and wait for its answer."""
        self.send(epoch)
        return self._go_on.get()

    def progress(self, progress: Progress) -> bool:
        """Tell the parent now and then; say whether it has asked for a state meanwhile."""
        now = time.monotonic()
        if now >= self._told + _PROGRESS_SECONDS or progress.batch == progress.batches:
            self._told = now
            self.send(progress)
        wanted = self._state_wanted.is_set()
        self._state_wanted.clear()
        return wanted

    def saved(self, state: SavedState) -> None:
        """Tell the parent, and wait until it has taken the file."""
        self.send(state)
        self._taken.get()

    def wait_to_be_killed(self) -> None:
        """Stay until the parent has what it wants: a process that ends before is one that failed."""
        self._thread.join()

    def _listen(self) -> None:
        try:
            while True:
                self._take(self._connection.recv())
        except (EOFError, OSError):
            os.killpg(0, signal.SIGKILL)

    def _take(self, answer: Answer) -> None:
        if answer.go_on is not None:
            self._go_on.put(answer.go_on)
        if answer.taken:
            self._taken.put(True)
        if answer.save:
            self._state_wanted.set()

    def _forget(self) -> None:
        logging.getLogger().removeHandler(self)
        self._connection.close()


class _Silent:
    """What the other ranks have to say of an epoch, rank 0 says."""

    def report(self, epoch: EpochReport) -> bool:
        """Go on: rank 0 tells the others whether to."""
        return True


def main() -> None:
    """Train, tell the parent how it ended, and wait to be killed."""
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    os.set_inheritable(connection.fileno(), False)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # whether the training ends is for the parent to decide
    work: Work = connection.recv()
    rank, parent = int(os.environ["RANK"]), _Parent(connection)
    parent.listen()
    parent.setLevel(logging.INFO if rank == 0 else logging.ERROR)  # the others say everything once more
    logging.getLogger().setLevel(logging.INFO)
    logging.getLogger().addHandler(parent)
    tame_ultralytics()
    try:
        _train(work, rank, parent)
    except (TrainingError, MachineUnusable, ProcessKilled) as error:
        parent.send(error)
    except BaseException as error:
        failure = RankFailed(f"Rank {rank} failed with {type(error).__name__}: {in_one_line(error)}")
        failure.add_note(traceback.format_exc())
        parent.send(failure)
    parent.wait_to_be_killed()


def _train(work: Work, rank: int, parent: _Parent) -> None:
    if rank == 0:
        parent.send(work.plan.train(parent, parent if work.saves_states else None))
    else:
        work.plan.train(_Silent())


if __name__ == "__main__":
    main()
