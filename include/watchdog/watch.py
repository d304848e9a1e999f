"""Detects that an attempt hangs, by checking the heartbeats of its processes once a second."""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import median
from typing import TYPE_CHECKING, Self

import psutil

from include.training.heartbeat import Phase, read_beats
from include.watchdog.processes import Member
from include.watchdog.traces import describe_position

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from include.training.heartbeat import Beat

CHECK_SECONDS = 1.0

_MAX_CHECK_SECONDS = 3 * CHECK_SECONDS
"""Maximum time counted between two checks. If more time has passed, this process was stopped too: its machine
was suspended, its container paused, or the machine is swapping."""

_WORK_SECONDS, _WORK_SHARE = 30.0, 0.05
"""Before its first batch is finished, an attempt is working, not hanging, if it uses at least this share of a
processor for this many seconds."""

_START_FACTOR = 12
"""Processor use counts as work for at most this multiple of the limit `elsewhere`, because a hanging process
can be busy, too."""

_BATCHES = 200
"""Number of recent batches from which the median is computed."""

_TRAINING, _ELSEWHERE = 300.0, 1800.0
_MEDIANS = 20.0

_ELSEWHERE_FACTOR = 6.0
_ELSEWHERE_AT_LEAST = 120.0
"""Smallest limit outside batches: a short `hang_timeout` is meant for batches, and start-up takes longer."""

_MARGIN = timedelta(minutes=10)


@dataclass(frozen=True)
class Limits:
    """How long an attempt may take to finish a batch before it counts as hanging."""

    training: float
    """Limit between two batches, in seconds."""
    elsewhere: float
    """Limit for everything else, in seconds: the time before the first batch (and, with `compile`, the first
    epoch), validation, saving and the final validation."""
    medians: float = 0
    """If this is not 0, both limits are at least this many times the median duration of a batch. Until a
    batch has been timed, `elsewhere` then applies between batches, too."""

    @classmethod
    def from_timeout(cls, hang_timeout: float | None) -> Self:
        """Return the limits for the parameter `hang_timeout`."""
        if hang_timeout is None:
            return cls(_TRAINING, _ELSEWHERE, _MEDIANS)
        return cls(hang_timeout, max(hang_timeout * _ELSEWHERE_FACTOR, _ELSEWHERE_AT_LEAST))

    def find_limit(self, phase: Phase, batches: Collection[float]) -> float:
        """Return the limit for this phase, given the seconds that recent batches took."""
        is_known = bool(batches) or not self.medians
        fixed = self.training if phase is Phase.TRAINING and is_known else self.elsewhere
        return max(fixed, self.medians * median(batches)) if batches else fixed

    @property
    def rank_timeout(self) -> timedelta:
        """How long ranks wait for each other during training before they give up.

        This is longer than `elsewhere`, so that the watchdog acts first, because it reports more. But if
        batches take minutes, the watchdog may wait longer than the ranks.
        """
        return timedelta(seconds=self.elsewhere) + _MARGIN


class Clock:
    """Counts the seconds in which this process could observe the others.

    A gap of more than 3 s between two checks counts as 3 s.
    """

    def __init__(self) -> None:
        self._last, self._seconds = time.monotonic(), 0.0

    def read(self) -> float:
        """Return the seconds since the clock was created. Call it at every check."""
        now = time.monotonic()
        self._seconds += min(now - self._last, _MAX_CHECK_SECONDS)
        self._last = now
        return self._seconds


@dataclass(frozen=True)
class Hang:
    """A hang, and where in training it happened."""

    epoch: int
    """Counted from 0; -1 before the first epoch."""
    batch: int
    """Number of finished batches of the epoch."""
    sentence: str
    """A sentence for the log, without its full stop."""


@dataclass
class _Observed:
    """What is known about a training process."""

    beat: Beat
    """Its last beat."""
    since: float
    """When that beat was first seen, in seconds of the Clock."""
    batches: deque[float] = field(default_factory=lambda: deque(maxlen=_BATCHES))
    """How long recent batches took, in seconds."""

    def update(self, beat: Beat, now: float) -> None:
        if beat == self.beat:
            return
        finished = beat.batch - self.beat.batch
        if beat.phase is self.beat.phase is Phase.TRAINING and finished > 0:
            self.batches.append((now - self.since) / finished)
        self.beat, self.since = beat, now


class _CpuUse:
    """The processor time of an attempt, the only sign of life while it reads labels or caches images."""

    def __init__(self, root: psutil.Process) -> None:
        self._root = root
        self._checked, self._used = 0.0, _sum_cpu_seconds(root)

    def was_busy(self, now: float) -> bool:
        """Return whether the attempt has been busy since the last measurement.

        It is measured at most every 30 s; between two measurements, the result is False.
        """
        if now - self._checked < _WORK_SECONDS:
            return False
        used = _sum_cpu_seconds(self._root)
        is_busy = used - self._used >= _WORK_SHARE * (now - self._checked)
        self._checked, self._used = now, used
        return is_busy


def _sum_cpu_seconds(root: psutil.Process) -> float:
    """Sum the processor time of the process and its living descendants."""
    seconds = 0.0
    with suppress(psutil.Error):
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.Error):
                times = process.cpu_times()
                seconds += times.user + times.system
    return seconds


class Watch:
    """Observes one attempt. `root` is the process that runs it: the trainer."""

    def __init__(self, root: psutil.Process, folder: Path, limits: Limits) -> None:
        self._root, self._folder, self._limits = root, folder, limits
        self._clock = Clock()
        self._seen: dict[int, _Observed] = {}
        self._cpu_use = _CpuUse(root)
        self._stopped_since: float | None = None

    def check(self) -> Hang | None:
        """Check once, and return the hang if there is one."""
        now = self._clock.read()
        is_working = self._cpu_use.was_busy(now) and now < _START_FACTOR * self._limits.elsewhere
        for beat in read_beats(self._folder):
            if beat.phase is Phase.OVER or not psutil.pid_exists(beat.pid):
                self._seen.pop(beat.pid, None)
            else:
                self._seen.setdefault(beat.pid, _Observed(beat, now)).update(beat, now)
        starting = [seen for seen in self._seen.values() if seen.beat.phase is Phase.STARTING]
        # While one rank reads labels or caches images, which may take hours, the others wait for it.
        if is_working or any(seen.since == now for seen in starting):
            for seen in starting:
                seen.since = now
        return self._find_overdue(now) or self._find_stopped(now)

    def list_ranks(self) -> dict[int, int]:
        """Return the rank of each process, if several are training."""
        beats = read_beats(self._folder)
        return {beat.pid: beat.rank for beat in beats if beat.rank >= 0 and beat.phase is not Phase.OVER}

    def _find_overdue(self, now: float) -> Hang | None:
        """Return the hang of a process that exceeds its limit.

        If several processes do, return the hang of the one furthest behind: the others are waiting for it.
        """
        late = [
            seen
            for seen in self._seen.values()
            if now - seen.since > self._limits.find_limit(seen.beat.phase, seen.batches)
        ]
        if not late:
            return None
        seen = min(late, key=lambda seen: (seen.beat.epoch, seen.beat.batch, -seen.beat.phase))
        seconds, where = now - seen.since, _describe_phase(seen.beat)
        limit = self._limits.find_limit(seen.beat.phase, seen.batches)
        return Hang(
            seen.beat.epoch,
            seen.beat.batch,
            f"No batch has finished for {seconds:.0f} s {where} (the limit is {limit:.0f} s)",
        )

    def _find_stopped(self, now: float) -> Hang | None:
        """Return the hang if the trainer has been stopped (SIGSTOP) for too long, whatever phase it is in."""
        if not Member(self._root, "the trainer").is_stopped:
            self._stopped_since = None
            return None
        self._stopped_since = now if self._stopped_since is None else self._stopped_since
        seconds = now - self._stopped_since
        if seconds <= self._limits.training:
            return None
        beats = [beat for beat in read_beats(self._folder) if beat.phase is not Phase.OVER]
        furthest_behind = min(((beat.epoch, beat.batch) for beat in beats), default=(-1, 0))
        return Hang(*furthest_behind, f"The trainer has been stopped for {seconds:.0f} s")


def _describe_phase(beat: Beat) -> str:
    if beat.phase is Phase.STARTING:
        start = f"at the start, {describe_position(beat.epoch, beat.batch)}"
        return start if beat.epoch >= 0 else "since training began"
    if beat.phase is Phase.BETWEEN:
        return f"during validation or at the end of epoch {beat.epoch + 1}"
    return describe_position(beat.epoch, beat.batch)
