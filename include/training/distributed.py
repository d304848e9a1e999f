"""Training on several GPUs: one process (a rank) for each GPU, supervised by this process.

Ultralytics would start such processes from a generated file with pickled callbacks in it, and receive no
reports from them. Here each rank gets a TrainingPlan and a connection to this process. This process records
epochs, publishes states and handles interruptions. So rank 0 reports each epoch and each saved state over its
connection, and waits for the answer. A rank exits when its connection closes, so that no rank outlives this
process, however this process ends.

The guarantee of equal weights holds. Gradients are averaged over all ranks after every batch, so weights,
optimizer and pending gradients are equal on all ranks. Only the running statistics of batch normalization
differ (Ultralytics does not synchronise them). The checkpoint has the statistics of rank 0, and all ranks
resume with them. This does not change the weights: training computes with each batch's own statistics, and
rank 0's running statistics are broadcast before a validation. With two GPUs, the order in which gradients are
added does not matter. With three or more, NCCL's order depends on how the GPUs are connected, so the
guarantee needs the same kind of machine.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from include.child_processes import add_project_to_path
from include.errors import AttemptError
from include.training.contract import (
    DiskError,
    EpochReport,
    MachineUnusable,
    ProcessKilled,
    SavedState,
    TrainingError,
    TrainingProgress,
    TrainingResult,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    from include.training.contract import EpochReporter, StateReporter
    from include.training.plan import TrainingPlan

_LOOPBACK = "127.0.0.1"

_PATIENCE = 5.0
"""Seconds to wait, after a rank has failed, for the kernel to report that another one has died."""


class RankFailed(AttemptError):
    """A process of a run on several GPUs failed; a note on the exception has its traceback, if known."""


class RankDied(RankFailed):
    """A process of a run on several GPUs exited without reporting an error."""


def train_in_ranks(
    plan: TrainingPlan,
    ranks: int,
    reporter: EpochReporter,
    states: StateReporter | None = None,
    program: str = "include.training.rank",
) -> TrainingResult:
    """Train in `ranks` processes and return rank 0's result. All processes have ended when this returns.

    `program` is the module that each process runs. Raises TrainingError, MachineUnusable, ProcessKilled,
    DiskError and OSError for the same reasons as a training run in this process. Also raises ProcessKilled if
    a rank is killed, RankFailed for any other error of a rank, and any exception that a reporter raises.
    """
    with _start_ranks(RankWork(plan, saves_states=states is not None), ranks, program) as started:
        result = _serve(started, reporter, states)
    return replace(result, device=f"{result.device} and {ranks - 1} more")


@dataclass(frozen=True)
class RankWork:
    """The work of a rank."""

    plan: TrainingPlan
    """The training run, the same for all ranks."""
    saves_states: bool
    """Whether rank 0 also reports its progress and every saved state."""


@dataclass(frozen=True)
class Answer:
    """A message from this process to rank 0."""

    should_continue: bool | None = None
    """The answer to an EpochReport: whether to continue."""
    has_taken_state: bool = False
    """Whether this process no longer needs the file of the last SavedState."""
    should_save: bool = False
    """Whether to save the state after the current batch."""


@dataclass(frozen=True)
class _Rank:
    number: int
    """Its rank, from 0."""
    process: subprocess.Popen[bytes]
    """The process that trains; it leads a process group, to which its loader workers belong."""
    connection: Connection[Any, Any]
    """This process's end of the connection to the rank."""

    def receive(self) -> object:
        """Return the next message or, if the connection was closed, the error that explains why."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            return self.find_death(wait=True)

    def answer(self, answer: Answer) -> None:
        """Send an answer. If the process has died, the next `receive` says why."""
        with suppress(OSError):
            self.connection.send(answer)

    def find_death(self, *, wait: bool = False) -> RankDied | ProcessKilled | None:
        """Return the error that says why the process has ended; None while it is alive.

        With `wait`, wait until the process has ended.
        """
        # WNOWAIT: the process id must not be reused before the whole group is killed.
        options = os.WEXITED | os.WNOWAIT | (0 if wait else os.WNOHANG)
        ended = os.waitid(os.P_PID, self.process.pid, options)
        if ended is None:
            return None
        whose = f"Rank {self.number} of the training run"
        if ended.si_code == os.CLD_EXITED:
            return RankDied(f"{whose} exited unexpectedly with status {ended.si_status}")
        return ProcessKilled(f"{whose} was killed by {signal.Signals(ended.si_status).name}")

    def kill(self) -> None:
        """Kill the process and its loader workers. last.pt stays intact: it is replaced atomically."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def _start_ranks(work: RankWork, ranks: int, program: str) -> Iterator[list[_Rank]]:
    """Start the processes, and kill all of them when the block ends, even if killing one of them fails."""
    store = _start_store()
    environment = add_project_to_path(os.environ) | {
        "WORLD_SIZE": str(ranks),
        "MASTER_ADDR": _LOOPBACK,
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": str(True),  # the server at that address is already running
    }
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // ranks)))
    with ExitStack() as stack:
        started = []
        for number in range(ranks):
            ours, theirs = Pipe()
            stack.enter_context(ours)
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, "-m", program, str(theirs.fileno())],
                    env=environment | {"RANK": str(number), "LOCAL_RANK": str(number)},
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            rank = _Rank(number, process, ours)
            stack.callback(rank.kill)
            started.append(rank)
            with suppress(OSError):  # _serve notices a rank that has died already
                ours.send(work)
        yield started


def _start_store() -> TCPStore:
    """Start the store over which the ranks connect, on a port of this machine that is reserved for it."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    listening = socket.create_server((_LOOPBACK, 0))
    port = listening.getsockname()[1]
    return TCPStore(
        _LOOPBACK,
        port,
        is_master=True,
        wait_for_workers=False,
        timeout=timedelta(minutes=5),
        master_listen_fd=listening.detach(),
    )


def _serve(ranks: Sequence[_Rank], reporter: EpochReporter, states: StateReporter | None) -> TrainingResult:
    """Handle the messages of the ranks until rank 0 sends the result."""
    by_connection = {rank.connection: rank for rank in ranks}
    while True:
        ready = [by_connection[connection] for connection in wait(by_connection)]  # type: ignore[index]
        messages = [(rank, rank.receive()) for rank in ready]
        errors = [message for _, message in messages if isinstance(message, Exception)]
        if errors and not any(isinstance(error, (ProcessKilled, RankDied)) for error in errors):
            errors += _await_deaths(ranks)
        _raise_cause(errors)
        for rank, message in messages:
            if isinstance(message, logging.LogRecord):
                logging.getLogger(message.name).handle(message)
            elif isinstance(message, EpochReport):
                rank.answer(Answer(should_continue=reporter.report(message)))
            elif isinstance(message, TrainingProgress) and states is not None:
                if states.report_progress(message):
                    rank.answer(Answer(should_save=True))
            elif isinstance(message, SavedState) and states is not None:
                states.report_state(message)
                rank.answer(Answer(has_taken_state=True))
            elif isinstance(message, TrainingResult):
                return message


def _await_deaths(ranks: Sequence[_Rank]) -> list[RankDied | ProcessKilled]:
    """Return why ranks have died; an empty list if none of them dies within _PATIENCE seconds.

    The kernel closes the connections of a killed process one by one. Another rank may therefore fail, and
    report its failure, before this process can see the kill.
    """
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if deaths := [death for rank in ranks if (death := rank.find_death())]:
            return deaths
        time.sleep(0.05)
    return []


def _raise_cause(errors: Sequence[Exception]) -> None:
    """Raise the error that is most likely the cause, if there are any errors.

    When one rank fails, the other ranks fail too. ProcessKilled takes precedence: if a rank is killed while
    it reads labels, the ranks that wait for it report an error in the data.
    """
    for kind in (ProcessKilled, TrainingError, MachineUnusable, DiskError, RankDied, OSError, Exception):
        for error in errors:
            if isinstance(error, kind):
                raise error
