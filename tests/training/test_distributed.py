"""Training in two processes is as exact as in one process, and never leaves a process behind.

The processes and their communication are real; gloo on the CPU stands in for NCCL on GPUs.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import psutil
import pytest

from include.checkpoints.keys import EXACT
from include.training import distributed
from include.training.contract import (
    DiskError,
    EpochReport,
    EpochReporter,
    ProcessKilled,
    SavedState,
    TrainingError,
    TrainingProgress,
    TrainingRequest,
    TrainingResult,
)
from include.training.distributed import RankFailed, _raise_cause, train_in_ranks
from include.training.loading import load_checkpoint
from include.training.plan import plan_training
from include.training.rank import _describe
from tests.support.killing import Attempt, Machine
from tests.support.tiny_models import IMAGES, architecture
from tests.support.tiny_trainings import Epochs, GivesUp, recovery, request, weights_of
from tests.support.waiting import until

ON_CPU = "tests.support.ranks_on_cpu"


def make_request(task: str, folder: Path, epochs: int = 3, **arguments: Any) -> TrainingRequest:
    """Return a request with five batches per epoch, two images per process, and no step at an epoch's end."""
    return request(
        task,
        folder,
        images=IMAGES,
        model=architecture(folder, task),
        epochs=epochs,
        save_dir=folder / "run",
        arguments={"imgsz": 64, "batch": 4, "plots": False, "close_mosaic": 1} | arguments,
        identity={"job": "a"},
    )


def in_two(wanted: TrainingRequest, reporter: EpochReporter) -> TrainingResult:
    with plan_training(wanted) as plan:
        return train_in_ranks(plan, 2, reporter, program=ON_CPU)


def ranks(process: psutil.Process | None = None) -> dict[int, psutil.Process]:
    """Return the training processes that `process` (by default this one) has started, by rank."""
    children = (process or psutil.Process()).children()
    # A forking server of the test session may have left a zombie, which has no command line.
    living = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
    return {int(p.environ()["RANK"]): p for p in living if ON_CPU in p.cmdline()}


class Seen(Epochs):
    """At each report, records the training processes and their loader workers."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: set[psutil.Process] = set()

    def report(self, epoch: EpochReport) -> bool:
        for rank in ranks().values():
            self.processes |= {rank, *rank.children(recursive=True)}
        return super().report(epoch)

    def left(self) -> list[psutil.Process]:
        return psutil.wait_procs(self.processes, timeout=30)[1]


class EndsWithinEpoch(GivesUp):
    """An Epoch- and StateReporter that always requests a state; a state within an epoch ends the run."""

    def __init__(self) -> None:
        super().__init__(after=99)
        self.states: list[SavedState] = []

    def report_progress(self, progress: TrainingProgress) -> bool:
        return True

    def report_state(self, state: SavedState) -> None:
        self.states.append(state)
        if state.batch:
            raise self.Enough


def test_two_processes_resume_within_an_epoch_and_end_with_the_same_weights(tmp_path: Path) -> None:
    wanted = make_request("detect", tmp_path, epochs=2)
    weights = weights_of(Path(in_two(wanted, Epochs()).last.path))
    shutil.rmtree(wanted.save_dir)

    ends = EndsWithinEpoch()
    with plan_training(wanted) as plan, pytest.raises(EndsWithinEpoch.Enough):
        train_in_ranks(plan, 2, ends, ends, program=ON_CPU)
    assert ranks() == {}
    state = load_checkpoint(wanted.save_dir / "weights" / "last.pt")
    assert (state["epoch"], state[EXACT]["batch"]) == (ends.states[-1].epoch, ends.states[-1].batch)
    attempt = recovery(wanted)
    if attempt.best_from is not None and not attempt.best_from.exists():
        attempt = replace(attempt, best_from=None)
    rest = Epochs()
    result = in_two(attempt, rest)
    assert {report.inexact_reason for report in rest.reports} == {None}
    assert weights_of(Path(result.last.path)) == weights


class AsksForNoState(Epochs):
    """An Epoch- and StateReporter that requests no state within an epoch."""

    def report_progress(self, progress: TrainingProgress) -> bool:
        return False

    def report_state(self, state: SavedState) -> None:
        pass


def test_two_processes_wait_for_the_best_pt_of_the_last_epoch(tmp_path: Path) -> None:
    reporter = AsksForNoState()
    with plan_training(make_request("classify", tmp_path, epochs=1)) as plan:
        result = train_in_ranks(plan, 2, reporter, reporter, program="tests.support.ranks_with_a_slow_disk")
    assert (result.best_epoch, result.fitness is None) == (0, False)


class Stops(Seen):
    """Stops the training run after its first epoch, as a user's stop request would."""

    def report(self, epoch: EpochReport) -> bool:
        super().report(epoch)
        return False


@pytest.mark.long
def test_all_processes_stop_if_the_reporter_requests_it(tmp_path: Path) -> None:
    stops = Stops()
    result = in_two(make_request("classify", tmp_path), stops)
    assert (result.stop_reason, result.epoch, len(stops.reports)) == ("stopped", 0, 1)
    assert result.fitness is not None
    assert stops.left() == []


class KillsRank(Seen):
    """Kills one of the processes at the first report."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank

    def report(self, epoch: EpochReport) -> bool:
        go_on = super().report(epoch)
        killed = ranks()[self.rank]
        killed.kill()
        os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)  # now its connection is closed
        return go_on


@pytest.mark.long
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_is_named_and_ends_the_other_rank_and_a_single_process_resumes_inexactly(
    rank: int, tmp_path: Path
) -> None:
    wanted, kills = make_request("classify", tmp_path, epochs=2), KillsRank(rank)
    with pytest.raises(ProcessKilled, match=rf"Rank {rank} of the training run was killed by SIGKILL$"):
        in_two(wanted, kills)
    assert kills.left() == []

    rest = Epochs()
    with plan_training(recovery(wanted)) as plan:
        plan.train(rest)
    assert [report.epoch for report in rest.reports] == [1]
    assert "processes 1 instead of 2" in (rest.reports[0].inexact_reason or "")


def test_a_killed_rank_is_named_even_if_another_rank_blames_the_data(tmp_path: Path) -> None:
    program = "tests.support.rank_that_blames_the_data"
    with (
        plan_training(make_request("classify", tmp_path)) as plan,
        pytest.raises(ProcessKilled, match=r"^Rank 0 of the training run was killed by SIGKILL$"),
    ):
        train_in_ranks(plan, 2, Epochs(), program=program)


class RemovesFolder(Seen):
    """Makes the next state impossible to write."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def report(self, epoch: EpochReport) -> bool:
        shutil.rmtree(self.folder)
        return super().report(epoch)


@pytest.mark.long
def test_an_error_in_a_process_is_raised_in_the_parent_with_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "_PATIENCE", 0.1)  # no process has died
    wanted = make_request("classify", tmp_path)
    removes = RemovesFolder(wanted.save_dir / "weights")
    with pytest.raises(DiskError, match=r"Parent directory") as failed:
        in_two(wanted, removes)
    assert "in save_model" in failed.value.__notes__[0]
    assert removes.left() == []


def test_a_full_disk_in_a_process_is_raised_as_a_full_disk_in_the_parent() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/machine/labels.cache")
    parent, rank = Pipe()
    rank.send(_describe(full, rank=1))
    received = parent.recv()
    assert (received.errno, received.filename) == (errno.ENOSPC, "/machine/labels.cache")
    assert str(received).startswith("[Errno 28] Rank 1 failed: No space left on device")
    assert type(_describe(OSError("without a number"), rank=1)) is RankFailed
    with pytest.raises(OSError, match="No space left"):
        _raise_cause([RankFailed("Rank 0 failed with RuntimeError: Connection closed by peer"), received])


@pytest.mark.long
def test_unsupported_arguments_are_refused_with_a_reason_also_for_several_processes(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"rect=True does not work with 2 GPUs: .*; omit it"):
        in_two(make_request("detect", tmp_path, rect=True), Epochs())
    assert ranks() == {}


def train_for_ever(folder: Path) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("asked to end"))
    in_two(make_request("classify", folder, epochs=9999), Epochs())
    return 0


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_no_process_outlives_the_one_that_started_it(number: int, tmp_path: Path) -> None:
    wanted = make_request("classify", tmp_path)
    parent = Attempt(train_for_ever, tmp_path, folder=tmp_path / "parent", machine=Machine(threads=1))
    families: dict[int, list[psutil.Process]] = {}
    try:
        until(
            (wanted.save_dir / "weights" / "last.pt").exists,
            parent.log.read_text,
            pause=0.01,
            unless=lambda: parent.ends_within(0),
        )
        started = ranks(psutil.Process(parent.pid))
        families = {rank: [process, *process.children(recursive=True)] for rank, process in started.items()}
        started[0].suspend()  # so that rank 1 waits for rank 0 without an answer
        os.kill(parent.pid, number)
        assert parent.ends_within(60)
        assert psutil.wait_procs(families[1], timeout=30)[1] == []
        with suppress(psutil.NoSuchProcess):
            started[0].resume()
        assert psutil.wait_procs(families[0], timeout=30)[1] == []
    finally:
        parent.kill()
        for process in (*families.get(0, ()), *families.get(1, ())):
            with suppress(psutil.NoSuchProcess):
                process.kill()
