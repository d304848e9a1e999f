"""Train two or more models (sides) in separate processes that take turns epoch by epoch.

Any other load on this machine then slows down all sides, not just one. At the end of each epoch, a side
reports how long the epoch took, and waits for its next turn.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.costs import Cost
from benchmarks.figures import rotated
from include.training.environment import isolate_ultralytics

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from benchmarks.place import Services
    from include.attempt.reporter import JobReporter
    from include.checkpoints.publisher import BackgroundPublisher
    from include.training.contract import EpochReport

PATIENCE_SECONDS = 600.0


@dataclass(frozen=True)
class Setting:
    """The settings of a training run."""

    data: Path
    epochs: int
    arguments: dict[str, Any] = field(default_factory=dict)
    model: str = "yolo11n"
    publish_every: int = 1
    """Number of epochs between two of our uploads."""


class Turns:
    """A side's end of the connection to the process that measures."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._started = time.perf_counter(), 0.0

    def finish(self, settle: Callable[[], None] = lambda: None) -> None:
        """Report the cost of this turn, and wait for the next one.

        `settle` waits until background work has ended, so that it cannot slow the other sides' turns; this
        wait does not count.
        """
        self.end(settle)
        self._connection.recv()
        self._started = time.perf_counter(), time.thread_time()

    def end(self, settle: Callable[[], None] = lambda: None) -> None:
        """Report the cost of the last turn."""
        start, processor = self._started
        turn = Cost(time.perf_counter() - start, time.thread_time() - processor)
        settle()
        self._connection.send(turn)


class Side:
    """A training run in another process, as seen by the process that measures."""

    def __init__(
        self,
        play: Callable[..., None],
        *arguments: Any,
        log: Path,
        method: Literal["spawn", "fork"] = "spawn",
    ) -> None:
        self._connection, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context(method).Process(  # type: ignore[attr-defined]
            target=_run_side, args=(play, log, theirs, *arguments)
        )
        self._process.start()
        theirs.close()
        self._log = log
        self._started = False

    @property
    def pid(self) -> int:
        """The id of the side's process."""
        assert self._process.pid is not None  # noqa: S101 - it was started
        return int(self._process.pid)

    def turn(self) -> Cost:
        """Run the next part (set-up and first epoch, another epoch, or the final work); return its cost."""
        if self._started:
            self._connection.send("go on")
        self._started = True
        try:
            turn: Cost = self._connection.recv()
        except EOFError:
            raise failure("A training run ended early", self._log) from None
        return turn

    def leave(self) -> None:
        """End the side's process, even if its training run has not finished."""
        self._connection.close()
        self._process.join(0 if self._process.exitcode is None else None)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@contextmanager
def start_sides(*plays: tuple[Any, ...], folder: Path) -> Iterator[list[Side]]:
    """Start one side for each tuple of a function and its arguments."""
    started: list[Side] = []
    try:
        for number, play in enumerate(plays):
            started.append(Side(*play, log=folder / f"side-{number}.log"))
        yield started
    finally:
        for side in started:
            side.leave()


def take_turns(playing: list[Side], turns: int) -> list[list[Cost]]:
    """Measure `turns` parts of each side, one side at a time; each round starts with a different side."""
    taken: list[list[Cost]] = [[] for _ in playing]
    for turn in range(turns):
        for number in rotated(range(len(playing)), turn):
            taken[number].append(playing[number].turn())
    return taken


def _run_side(play: Callable[..., None], log: Path, connection: Connection, *arguments: Any) -> None:
    redirect(log)
    turns = Turns(connection)
    with suppress(BrokenPipeError, EOFError):  # the measuring process has closed the connection
        play(turns, *arguments)


def redirect(log: Path) -> None:
    """Append what this process prints to the file `log`."""
    with log.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)


def isolate(folder: Path) -> None:
    """Isolate Ultralytics from the user's settings and the network; it keeps its settings in `folder`.

    Also turns MLflow off: plain Ultralytics would log to it, because it is installed for the tests.
    """
    settings = folder / "ultralytics"
    settings.mkdir()
    isolate_ultralytics()
    os.environ |= {"YOLO_CONFIG_DIR": str(settings), "YOLO_OFFLINE": "True", "YOLO_VERBOSE": "False"}
    from ultralytics import settings as integrations

    integrations.update({"mlflow": False})


def failure(what: str, log: Path) -> RuntimeError:
    """Return the error that says what happened, and how the process's log ends."""
    tail = log.read_text(errors="replace").splitlines()[-15:]
    return RuntimeError("\n".join([f"{what}; its log ends with:", *tail]))


def train_plain(turns: Turns, setting: Setting, folder: Path) -> None:
    """Train with plain Ultralytics: `YOLO(…).train(…)`."""
    from ultralytics import YOLO

    def epoch_end(trainer: Any) -> None:
        if trainer.epoch < len(taken):
            return  # the final validation, which Ultralytics reports as another epoch
        taken.append(trainer.epoch)
        turns.finish()

    taken: list[int] = []
    model = YOLO(f"{setting.model}.yaml")
    model.add_callback("on_fit_epoch_end", epoch_end)
    model.train(
        data=str(setting.data), epochs=setting.epochs, project=str(folder), name="plain", **setting.arguments
    )
    turns.end()


def train_ours(turns: Turns, setting: Setting, folder: Path, services: Services, job_id: str) -> None:
    """Train as the task `train` does: epochs go to Postgres, and states to S3 in the background."""
    from ultralytics import __version__

    from include.attempt.epoch_recorder import EpochRecorder
    from include.attempt.memory_watch import MemoryWatch
    from include.attempt.preemption import Termination
    from include.attempt.reporter import JobReporter
    from include.attempt.starting_point import StartingPoint
    from include.attempt.tracking import Tracker
    from include.checkpoints.publisher import BackgroundPublisher
    from include.checkpoints.snapshot import PublishLimits
    from include.training.contract import TrainingRequest
    from include.training.run import train

    services.begin(job_id)
    store, row = services.store(job_id), services.row(job_id)
    row.start_training(StartingPoint())
    request = TrainingRequest(
        task="detect",
        model=setting.model,
        data=setting.data,
        save_dir=folder,
        epochs=setting.epochs,
        arguments=setting.arguments,
    )
    limits = PublishLimits(every_epochs=setting.publish_every)
    untracked = Tracker(None, job_id, None, row.open)
    with (
        EpochRecorder(row) as recorder,
        BackgroundPublisher(store, job_id, __version__, row.record_durable, limits) as publisher,
    ):
        last = folder / "weights" / "last.pt"
        memory = MemoryWatch()
        reporter = JobReporter(recorder, publisher, untracked, Termination(), memory, last, folder, 60.0)
        waits = publisher if setting.publish_every == 1 else None
        result = train(request, TurnTakingReporter(turns, reporter, waits), reporter)
    store.upload(result.best, job_id, "best", __version__)
    store.upload(result.last, job_id, "last", __version__)
    turns.end()


class TurnTakingReporter:
    """Takes turns, and reports the end of an epoch at the start of the next turn (an EpochReporter).

    So the upload runs during the next epoch, as it does without turns. If each epoch has an upload, the turn
    ends only when `publisher` has finished that upload.
    """

    def __init__(self, turns: Turns, reporter: JobReporter, publisher: BackgroundPublisher | None) -> None:
        self._turns, self._reporter, self._publisher = turns, reporter, publisher
        self._published: int | None = None

    def report(self, epoch: EpochReport) -> bool:
        """End this turn; at the start of the next one, report the epoch, which publishes its state."""
        self._turns.finish(self._settle)
        self._published = epoch.epoch
        return self._reporter.report(epoch)

    def _settle(self) -> None:
        if self._publisher:
            wait_until_durable(self._publisher, self._published)


def wait_until_durable(publisher: BackgroundPublisher, epoch: int | None) -> None:
    """Wait until the state of that epoch, or a newer one, is in S3. Raises TimeoutError."""
    if epoch is not None:
        wait_until(
            lambda: (publisher.durable or (-1, 0)) >= (epoch, 0),
            f"epoch {epoch + 1} to be in S3",
            PATIENCE_SECONDS,
        )


def wait_until(is_so: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait until `is_so` returns True. Raises TimeoutError."""
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until:
            raise TimeoutError(f"Waited {seconds:.0f} s for {what}")
        time.sleep(0.01)
