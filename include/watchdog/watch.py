"""Notices that an attempt hangs: looks at its processes once a second, and decides."""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from include.training.heartbeat import Phase, read_beats
from include.watchdog.processes import Member
from include.watchdog.traces import place

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.training.heartbeat import Beat
    from include.watchdog.limits import Limits

LOOK_SECONDS = 1.0

_LONGEST_LOOK = 3 * LOOK_SECONDS
"""What counts of the time between two looks. Where more has passed, this process was stopped too: with its
machine (suspended, a paused container) or by a machine that swaps."""

_WORK_SECONDS, _WORK_SHARE = 30.0, 0.05
"""Before its first batch an attempt that has used so much of a processor is at work: labels are read."""

_STARTS = 12
"""So many times the limit it may do so: a process that hangs may compute, too."""

_BATCHES = 200
"""How many of the newest go into the median."""


class Clock:
    """Seconds in which this process could see the others: they do not count while it was stopped itself."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._last, self._seconds = now(), 0.0

    def read(self) -> float:
        """Seconds since the clock was made. To be read at every look."""
        now = self._now()
        self._seconds += min(max(now - self._last, 0.0), _LONGEST_LOOK)
        self._last = now
        return self._seconds


@dataclass(frozen=True)
class Hang:
    """An attempt that hangs, in which epoch (from 0, or -1) and after how many of its batches."""

    epoch: int
    batch: int
    sentence: str


@dataclass
class _Seen:
    """What was last seen of a process that trains, when, and how long its batches take."""

    beat: Beat
    since: float
    batches: deque[float] = field(default_factory=lambda: deque(maxlen=_BATCHES))

    def look(self, beat: Beat, now: float) -> None:
        if beat == self.beat:
            return
        finished = beat.batch - self.beat.batch
        if beat.phase is self.beat.phase is Phase.TRAINING and finished > 0:
            self.batches.append((now - self.since) / finished)
        self.beat, self.since = beat, now


class _Work:
    """Whether an attempt computes, where it shows nothing else: labels are read, images cached."""

    def __init__(self, root: psutil.Process) -> None:
        self._root = root
        self._looked, self._used = 0.0, _cpu_seconds(root)

    def look(self, now: float) -> bool:
        """Whether it has, in the last half minute; told once of each."""
        if now - self._looked < _WORK_SECONDS:
            return False
        used = _cpu_seconds(self._root)
        works = used - self._used >= _WORK_SHARE * (now - self._looked)
        self._looked, self._used = now, used
        return works


def _cpu_seconds(root: psutil.Process) -> float:
    """Of the process and what it has started, as far as that lives."""
    seconds = 0.0
    with suppress(psutil.Error):
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.Error):
                times = process.cpu_times()
                seconds += times.user + times.system
    return seconds


class Watch:
    """What one attempt has shown so far. root is the process that the task's supervisor has started."""

    def __init__(self, root: psutil.Process, folder: Path, limits: Limits) -> None:
        self._root, self._folder, self._limits = root, folder, limits
        self._clock = Clock()
        self._seen: dict[int, _Seen] = {}
        self._work = _Work(root)
        self._stopped_since: float | None = None

    def look(self) -> Hang | None:
        """Look once; returns what is wrong, if anything is."""
        now = self._clock.read()
        works = self._work.look(now)
        for beat in read_beats(self._folder):
            if beat.phase is Phase.OVER or not psutil.pid_exists(beat.pid):
                self._seen.pop(beat.pid, None)
            else:
                seen = self._seen.setdefault(beat.pid, _Seen(beat, now))
                seen.look(beat, now)
                if works and beat.phase is Phase.STARTING and now < _STARTS * self._limits.elsewhere:
                    seen.since = now
        return self._overdue(now) or self._stopped(now)

    def position(self) -> tuple[int, int]:
        """Return the epoch and its finished batches, of the process that is least far."""
        beats = [beat for beat in read_beats(self._folder) if beat.phase is not Phase.OVER]
        return min(((beat.epoch, beat.batch) for beat in beats), default=(-1, 0))

    def ranks(self) -> dict[int, int]:
        """Which process is which rank, where there are several and they train."""
        beats = read_beats(self._folder)
        return {beat.pid: beat.rank for beat in beats if beat.rank >= 0 and beat.phase is not Phase.OVER}

    def _overdue(self, now: float) -> Hang | None:
        """Find a process whose time is up; of several the one that is least far: the others wait for it."""
        late = [
            seen
            for seen in self._seen.values()
            if now - seen.since > self._limits.limit(seen.beat.phase, seen.batches)
        ]
        if not late:
            return None
        seen = min(late, key=lambda seen: (seen.beat.epoch, seen.beat.batch, -seen.beat.phase))
        seconds, where = now - seen.since, _where(seen.beat)
        limit = self._limits.limit(seen.beat.phase, seen.batches)
        return Hang(
            seen.beat.epoch,
            seen.beat.batch,
            f"No batch has finished for {seconds:.0f} s {where} (the limit there is {limit:.0f} s)",
        )

    def _stopped(self, now: float) -> Hang | None:
        """Find a trainer that was stopped, also while it trains nothing: it fetches data, or publishes."""
        if not Member(self._root, "the trainer").is_stopped:
            self._stopped_since = None
            return None
        self._stopped_since = now if self._stopped_since is None else self._stopped_since
        seconds = now - self._stopped_since
        if seconds <= self._limits.training:
            return None
        return Hang(*self.position(), f"The trainer has been stopped for {seconds:.0f} s")


def _where(beat: Beat) -> str:
    if beat.phase is Phase.STARTING:
        begun = f"at the start, {place(beat.epoch, beat.batch)}"
        return begun if beat.epoch >= 0 else "since the training began"
    if beat.phase is Phase.BETWEEN:
        return f"in the validation or at the end of epoch {beat.epoch + 1}"
    return place(beat.epoch, beat.batch)
