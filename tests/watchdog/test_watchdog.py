"""A hanging attempt is detected from outside, explained and killed; the next one ends with the same weights.

The training processes, the faults and the watchdog are real; only the watchdog's limits are short.
"""

from __future__ import annotations

import mmap
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import psutil
import pytest
from airflow.sdk.exceptions import AirflowFailException

from include.training import heartbeat
from include.training.heartbeat import Heartbeats, HeartbeatWriter, Phase, read_beats, send_heartbeats
from include.training.plan import plan_training
from include.training.stacks import disable_stack_dumps
from include.trusted_folders import make_trusted_folder
from include.watchdog.memory import OomKills
from include.watchdog.traces import HANG, MEMORY, UNKNOWN, Cause, Trace, explain_kills, leave_trace
from include.watchdog.watch import Limits, Watch
from tests.orchestration.test_retries import Task
from tests.support import hanging, killing
from tests.support.killing import Machine
from tests.support.tiny_models import architecture
from tests.support.tiny_trainings import Epochs, request, weights_of
from tests.support.waiting import until

SHORT = Limits(training=3, elsewhere=60)
LONG_LIMITS = Limits(training=60, elsewhere=60)
"""For tests without a hang: processes may be slow, especially when their control group is out of memory."""


class Attempt:
    """One attempt at the training run in a folder, in a separate process like that of the task `train`."""

    def __init__(
        self,
        folder: Path,
        number: int,
        limits: Limits,
        *how: str,
        program: Callable[..., int] = hanging.attempt,
    ) -> None:
        self.watchdog = folder / "watchdog"
        own, alone = folder / f"attempt-{number}", Machine(threads=1)
        self._process = killing.Attempt(program, folder, number, limits, *how, folder=own, machine=alone)
        self.root = psutil.Process(self._process.pid)

    @property
    def log(self) -> str:
        return self._process.log.read_text()

    @property
    def family(self) -> list[psutil.Process]:
        """Return all processes of the attempt, including the watchdog."""
        return [self.root, *self.root.children(recursive=True)]

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until the condition holds; fail if the attempt ends before that."""
        until(
            condition, lambda: self.log, seconds=3600, pause=0.01, unless=lambda: self._process.ends_within(0)
        )

    def trains(self, processes: int = 1) -> bool:
        """Return whether each training process is in the batches of an epoch after the first one."""
        in_training = [b for b in read_beats(self.watchdog) if b.phase is Phase.TRAINING and b.epoch >= 1]
        return len(in_training) == processes

    def until_it_trains(self, processes: int = 1) -> None:
        """Wait until each of the attempt's training processes trains in an epoch after the first one."""
        self.until((self.watchdog / "watching").exists)  # until then the watchdog's folder may be recreated
        self.until(lambda: self.trains(processes))

    def status(self) -> int:
        """Wait for the end of the attempt; return its exit status, or minus the signal that killed it."""
        assert self._process.ends_within(120), self.log
        return self._process.status()

    def kill(self) -> None:
        for process in self.family:
            with suppress(psutil.Error):
                process.kill()
        self._process.status()


@contextmanager
def attempt(
    folder: Path,
    number: int = 1,
    limits: Limits = SHORT,
    *how: str,
    program: Callable[..., int] = hanging.attempt,
) -> Iterator[Attempt]:
    started = Attempt(folder, number, limits, *how, program=program)
    try:
        yield started
    finally:
        with suppress(psutil.Error):
            started.kill()


def left(processes: list[psutil.Process]) -> list[psutil.Process]:
    return psutil.wait_procs(processes, timeout=30)[1]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("uninterrupted")
    with attempt(folder, 1, LONG_LIMITS) as whole:
        assert whole.status() == 0, whole.log
    return weights_of(folder / "run" / "weights" / "last.pt")


def test_a_suspended_trainer_is_explained_and_killed_and_the_next_attempt_ends_with_the_same_weights(
    uninterrupted: str, tmp_path: Path
) -> None:
    with attempt(tmp_path) as stopped:
        stopped.until_it_trains()
        killing.stop_when(
            stopped.root.pid, stopped.trains
        )  # between epochs the watchdog names another reason
        family = stopped.family
        assert stopped.status() == -signal.SIGKILL
        assert left(family) == []
        pid = stopped.root.pid
        first = next(
            line for line in stopped.log.splitlines() if line.startswith("No batch has finished for ")
        )
        assert f"the trainer (process {pid}) is stopped (SIGSTOP)" in first
        assert "the next one resumes from the last durable state" in first
        assert " in _do_train" in stopped.log
    trace = Trace.read(stopped.watchdog)
    assert trace is not None
    assert (trace.attempt, trace.cause) == (1, HANG)
    assert trace.epoch >= 1
    with attempt(tmp_path, 2, LONG_LIMITS) as next_one:
        assert next_one.status() == 0, next_one.log
        assert Trace.read(next_one.watchdog) is None
    assert weights_of(tmp_path / "run" / "weights" / "last.pt") == uninterrupted


def test_a_trainer_that_holds_the_interpreter_lock_is_killed_with_its_stack(tmp_path: Path) -> None:
    with attempt(tmp_path, 1, SHORT, "hold-the-gil") as holding:
        assert holding.status() == -signal.SIGKILL, holding.log
        assert "after batch 0 of epoch 2" in holding.log
        assert " in hold_the_interpreter_lock" in holding.log


def test_a_driver_that_hangs_while_cuda_starts_ends_the_attempt(tmp_path: Path) -> None:
    with attempt(tmp_path, 1, Limits(training=3, elsewhere=3), "driver-hangs") as starting:
        assert starting.status() == -signal.SIGKILL, starting.log
        assert re.search(r"^No batch has finished for \d+ s since training began", starting.log, re.MULTILINE)
        assert " in do_not_respond" in starting.log


def test_one_suspended_loader_worker_is_named_and_ends_the_attempt(tmp_path: Path) -> None:
    # The trainer may wait for the worker at the beginning of an epoch, where the limit `elsewhere` applies.
    with attempt(tmp_path, 1, Limits(training=3, elsewhere=20), "--workers=2") as loading:
        loading.until_it_trains()
        worker = next(p for p in loading.root.children() if p.cmdline() == loading.root.cmdline())
        family = loading.family
        worker.suspend()
        assert loading.status() == -signal.SIGKILL, loading.log
        assert left(family) == []
        assert f"a loader worker (process {worker.pid}) is stopped (SIGSTOP)" in loading.log
        assert " in _worker_loop" in loading.log
        assert "DataLoader worker" not in loading.log  # the trainer had no time to report it


@pytest.mark.long
def test_workers_that_die_while_the_watchdog_reports_a_hang_do_not_change_the_reason(tmp_path: Path) -> None:
    limits, how = Limits(training=3, elsewhere=20), ("--workers=2", "workers-die-when-asked")
    with attempt(tmp_path, 1, limits, *how) as loading:
        loading.until_it_trains()
        worker = next(p for p in loading.root.children() if p.cmdline() == loading.root.cmdline())
        worker.suspend()
        assert loading.status() == -signal.SIGKILL, loading.log
        trace = Trace.read(loading.watchdog)
        assert trace is not None
        assert trace.cause == HANG


def test_the_first_trace_of_an_attempt_is_kept(tmp_path: Path) -> None:
    first = Trace(1, HANG, "No batch has finished for 300 s", 2, 5)
    first.write(tmp_path)
    leave_trace(tmp_path, 1, OomKills(), "A loader worker was killed")
    assert Trace.read(tmp_path) == first


@pytest.mark.long
def test_one_suspended_rank_of_two_is_named_and_ends_the_attempt(tmp_path: Path) -> None:
    with attempt(tmp_path, 1, SHORT, "--ranks=2") as ranks:
        ranks.until_it_trains(processes=2)
        family, rank = ranks.family, psutil.Process(read_beats(ranks.watchdog)[-1].pid)
        rank.suspend()
        assert ranks.status() == -signal.SIGKILL
        assert left(family) == []
        assert f"rank 1 (process {rank.pid}) is stopped (SIGSTOP)" in ranks.log
        assert "--- rank 0 (process " in ranks.log
        assert "--- a loader worker of rank 0 (process " in ranks.log
        assert " in train_in_ranks" in ranks.log
        assert " in _do_train" in ranks.log


@pytest.mark.long
def test_a_suspended_rank_does_not_outlive_a_killed_trainer(tmp_path: Path) -> None:
    with attempt(tmp_path, 1, SHORT, "--ranks=2") as ranks:
        ranks.until_it_trains(processes=2)
        family = ranks.family
        psutil.Process(read_beats(ranks.watchdog)[-1].pid).suspend()
        ranks.root.kill()
        assert left(family) == []


def test_the_watchdog_ends_with_a_killed_trainer_and_leaves_no_process_behind(tmp_path: Path) -> None:
    with attempt(tmp_path, 1, LONG_LIMITS, "--workers=2") as killed:
        killed.until_it_trains()
        family = killed.family
        for process in killed.root.children():
            if process.cmdline() == killed.root.cmdline():
                process.suspend()  # so that the worker cannot notice the trainer's death
        killed.root.kill()
        assert killed.status() == -signal.SIGKILL
        assert left(family) == []
        trace = Trace.read(killed.watchdog)
        assert trace is not None
        assert (trace.attempt, trace.cause) == (1, UNKNOWN)
        assert trace.epoch >= 1


def test_a_killed_loader_worker_leaves_a_trace_of_the_attempt(tmp_path: Path) -> None:
    with attempt(tmp_path, 1, LONG_LIMITS, "--workers=2") as loading:
        loading.until_it_trains()
        worker = next(p for p in loading.root.children() if p.cmdline() == loading.root.cmdline())
        worker.kill()
        assert loading.status() == 1
        assert "ProcessKilled: DataLoader worker (pid" in loading.log
        trace = Trace.read(loading.watchdog)
        assert trace is not None
        assert (trace.attempt, trace.cause) == (1, UNKNOWN)
        assert trace.epoch >= 1
        assert re.search(r"DataLoader worker \(pid.*\) (is killed|exited)", trace.detail)


def test_reading_labels_sends_heartbeats_before_the_first_batch(tmp_path: Path) -> None:
    training_request = request("detect", tmp_path, model=architecture(tmp_path, "detect"), epochs=1)
    with plan_training(
        replace(training_request, heartbeats=Heartbeats(tmp_path / "beats", timedelta(hours=1)))
    ) as plan:
        make_trusted_folder(tmp_path / "beats")
        try:
            with send_heartbeats(plan.request.heartbeats):
                trainer = plan.build_trainer(Epochs())
                (before,) = read_beats(tmp_path / "beats")
                trainer._setup_train()
                (after,) = read_beats(tmp_path / "beats")
        finally:
            disable_stack_dumps()  # a training process keeps them until it ends
    assert after.phase is before.phase is Phase.STARTING
    assert after.beats - before.beats >= 8 + 4  # one heartbeat per image whose labels were read


def test_ranks_that_wait_while_another_one_reads_labels_do_not_hang(tmp_path: Path) -> None:
    with ExitStack() as stack:
        idle = [stack.enter_context(subprocess.Popen(["sleep", "600"])) for _ in (0, 1)]
        for process in idle:
            stack.callback(process.kill)
        writers = [
            HeartbeatWriter(stack.enter_context(open_heartbeat(tmp_path, process.pid)), rank)
            for rank, process in enumerate(idle)
        ]
        watch = Watch(psutil.Process(idle[0].pid), tmp_path, Limits(training=60, elsewhere=0.5))
        for _ in range(20):
            writers[0].beat_at_start()
            assert watch.check() is None
            time.sleep(0.1)
        until(watch.check, "the watchdog", pause=0.1)


@contextmanager
def open_heartbeat(folder: Path, pid: int) -> Iterator[mmap.mmap]:
    """Create the heartbeat file of a process."""
    path = folder / f"{pid}.beat"
    path.write_bytes(bytes(heartbeat._FORMAT.size))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), heartbeat._FORMAT.size) as mapped:
        yield mapped


def test_validation_and_the_end_of_an_epoch_may_take_longer_than_a_batch(tmp_path: Path) -> None:
    with attempt(tmp_path, 1, Limits(training=3, elsewhere=60), "slow-validation") as slow:
        assert slow.status() == 0, slow.log
        assert "slept" in slow.log


def test_a_watchdog_that_was_suspended_counts_only_the_time_in_which_it_ran(tmp_path: Path) -> None:
    with attempt(tmp_path, 1, Limits(training=10, elsewhere=60)) as suspended:
        suspended.until_it_trains()
        watchdog = next(p for p in suspended.root.children() if "include.watchdog" in p.cmdline())
        suspended.root.suspend()
        time.sleep(1.5)  # the watchdog notices that no batch finishes
        watchdog.suspend()
        time.sleep(11)
        watchdog.resume()
        time.sleep(1.5)  # the watchdog notices it again
        suspended.root.resume()
        assert suspended.status() == 0, suspended.log


def test_a_trainer_suspended_outside_of_training_is_killed(tmp_path: Path) -> None:
    limits = Limits(training=1, elsewhere=60)
    with attempt(tmp_path, 1, limits, "fetch-for-ever") as fetching:
        fetching.until(lambda: "fetching" in fetching.log)
        fetching.until((fetching.watchdog / "watching").exists)
        time.sleep(limits.training + 2)  # an attempt that fetches data is left alone
        fetching.root.suspend()
        assert fetching.status() == -signal.SIGKILL
        assert "The trainer has been stopped for " in fetching.log


def test_three_hangs_in_a_row_end_the_job_with_an_error_that_names_the_hang(tmp_path: Path) -> None:
    task = Task({"job_id": "mine"})
    for number in (1, 2, 3):
        task.begin((2, 17), Trace.read(tmp_path / "watchdog"))
        with attempt(tmp_path, number, Limits(training=1, elsewhere=60), "fetch-for-ever") as fetching:
            fetching.until(lambda: "fetching" in fetching.log)
            fetching.root.suspend()
            assert fetching.status() == -signal.SIGKILL
    with pytest.raises(AirflowFailException) as end:
        task.begin((2, 17), Trace.read(tmp_path / "watchdog"))
    assert "Most likely the process hangs (3 of 3 times). The trainer has been stopped for " in str(end.value)


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """Yield a control group with little memory that processes can enter."""
    memory = Path("/sys/fs/cgroup/memory")
    group = (memory if memory.is_dir() else memory.parent) / f"watchdog-{os.getpid()}"
    limit = group / ("memory.limit_in_bytes" if memory.is_dir() else "memory.max")
    try:
        group.mkdir()
        limit.write_text(str(3 * 2**29))
    except OSError as error:
        pytest.skip(f"cannot create a control group: {error}")
    yield group
    group.rmdir()


def test_lack_of_memory_is_recorded_as_the_cause_when_the_kernel_kills_the_trainer(
    memory_group: Path, tmp_path: Path
) -> None:
    within = partial(hanging.attempt_in_control_group, memory_group)
    with attempt(tmp_path, 1, LONG_LIMITS, "take-all-memory", program=within) as greedy:
        greedy.until((greedy.watchdog / "watching").exists)
        family = greedy.family
        assert greedy.status() == -signal.SIGKILL, greedy.log
        assert left(family) == []
        trace = Trace.read(greedy.watchdog)
        assert trace is not None
        assert (trace.cause, trace.epoch) == (MEMORY, 1)


def exhaust(memory_group: Path) -> None:
    """Run a process in the group that allocates memory until the kernel kills it."""
    code = "open(sys.argv[1], 'w').write(str(os.getpid())); taken = [b'x' * 2**26 for _ in range(99)]"
    command = [sys.executable, "-c", f"import os, sys; {code}", str(memory_group / "cgroup.procs")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL


def test_lack_of_memory_is_named_when_a_loader_worker_dies_of_it(memory_group: Path, tmp_path: Path) -> None:
    within = partial(hanging.attempt_in_control_group, memory_group)
    with attempt(tmp_path, 1, LONG_LIMITS, "--workers=2", program=within) as loading:
        loading.until_it_trains()
        worker = next(p for p in loading.root.children() if p.cmdline() == loading.root.cmdline())
        exhaust(memory_group)
        worker.kill()
        assert loading.status() == 1, loading.log
        assert re.search(r"ProcessKilled: DataLoader .*, most likely because memory ran out\n", loading.log)
        trace = Trace.read(loading.watchdog)
        assert trace is not None
        assert trace.cause == MEMORY


def test_an_old_oom_kill_does_not_explain_a_death(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = 5
    monkeypatch.setattr("include.watchdog.memory.count_oom_kills", lambda: counted)
    kills = OomKills(recent_seconds=0)
    assert not kills.has_killed
    counted = 6
    kills.check()
    assert kills.has_killed
    kills.check()
    assert not kills.has_killed


@pytest.mark.parametrize(
    ("given", "phase", "batches", "limit"),
    [
        (None, Phase.TRAINING, [], 1800),  # the duration of a batch is not known yet
        (None, Phase.TRAINING, [1.0, 2.0, 900.0], 300),
        (None, Phase.TRAINING, [20.0, 30.0, 40.0], 600),
        (None, Phase.STARTING, [], 1800),
        (None, Phase.BETWEEN, [200.0], 4000),
        (10, Phase.TRAINING, [20.0], 10),
        (10, Phase.STARTING, [], 120),
        (3600, Phase.BETWEEN, [], 21600),
    ],
)
def test_the_limit_depends_on_hang_timeout_the_phase_and_the_batch_durations(
    given: float | None, phase: Phase, batches: list[float], limit: float
) -> None:
    assert Limits.from_timeout(given).find_limit(phase, batches) == limit


@pytest.mark.parametrize("given", [None, 10, 600])
def test_the_rank_timeout_is_longer_than_the_watchdogs_limit_by_less_than_an_hour(
    given: float | None,
) -> None:
    limits = Limits.from_timeout(given)
    assert limits.elsewhere < limits.rank_timeout.total_seconds() < limits.elsewhere + 3600


def trace(number: int, cause: Cause, epoch: int = 3, batch: int = 7, detail: str = "") -> Trace:
    return Trace(number, cause, detail or f"Attempt {number} ended", epoch, batch)


SENTENCES: dict[str, tuple[list[Trace | None], str]] = {
    "hangs": (
        [trace(1, HANG, batch=1), trace(2, HANG, batch=2), trace(3, HANG, detail="No batch for 300 s")],
        (
            r"^Most likely the process hangs \(3 of 3 times\)\. No batch for 300 s\. "
            r"Look at the stack traces .* hang_timeout$"
        ),
    ),
    "hangs at one sample": (
        [trace(number, HANG) for number in (1, 2, 3)],
        r"the process hangs .*, each time after batch 7 of epoch 4: a bad sample may be the reason\.",
    ),
    "memory": (
        [trace(1, MEMORY), None, trace(3, MEMORY)],
        r"^Most likely the machine has too little memory \(2 of 3 times\)\. .* smaller batch",
    ),
    "a bad sample": (
        [trace(number, UNKNOWN) for number in (1, 2, 3)],
        r"^Most likely a bad sample crashes the process: it died each time after batch 7 of epoch 4\.",
    ),
    "different places": (
        [trace(number, UNKNOWN, batch=number) for number in (1, 2, 3)],
        r"^Most likely the machine has too little memory \(`dmesg` shows .*, or the data crash the process\.",
    ),
    "before the first epoch": ([trace(number, UNKNOWN, epoch=-1) for number in (1, 2, 3)], "`dmesg` shows"),
    "nothing known": ([None, None, None], "`dmesg` shows"),
}


@pytest.mark.parametrize(("traces", "sentence"), SENTENCES.values(), ids=SENTENCES)
def test_the_likely_cause_is_that_of_most_attempts(traces: list[Trace | None], sentence: str) -> None:
    assert re.search(sentence, explain_kills(traces))


def test_ranks_use_the_configured_timeout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torch import device, distributed
    from ultralytics.engine.trainer import BaseTrainer

    from include.training.exact import ExactMixin

    def on_gloo(_: BaseTrainer) -> None:
        distributed.init_process_group(
            "gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1, timeout=timedelta(hours=3)
        )

    monkeypatch.setattr(BaseTrainer, "_setup_ddp", on_gloo)
    trainer = ExactMixin.__new__(ExactMixin)
    trainer.collective_timeout = Limits.from_timeout(600).rank_timeout
    trainer._setup_ddp()
    try:
        group = distributed.group.WORLD
        assert group is not None
        backend = group._get_backend(device("cpu"))
        assert backend.options._timeout == 14 * timedelta(seconds=3600 + 600)  # one may read labels for hours
        trainer._limit_waits()
        assert backend.options._timeout == timedelta(seconds=3600 + 600)
    finally:
        distributed.destroy_process_group()
