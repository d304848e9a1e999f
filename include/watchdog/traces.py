"""Traces of killed attempts, and the likely cause that several of them point to."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self

from include.training.heartbeat import read_beats
from include.trusted_folders import make_trusted_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.watchdog.memory import OomKills

_FILE = "trace.json"

HANG: Final = "hang"
MEMORY: Final = "memory"
UNKNOWN: Final = "unknown"

Cause = Literal["hang", "memory", "unknown"]
"""Why an attempt was killed: it hung, memory ran out, or nothing is known."""


@dataclass(frozen=True)
class Trace:
    """The end of an attempt that was killed, or that lost one of its processes to a signal."""

    attempt: int
    """Number of the attempt, counted from 1."""
    cause: Cause
    """Why the attempt was killed."""
    detail: str
    """A sentence without its full stop."""
    epoch: int
    """Epoch in which the attempt ended, counted from 0; -1 before the first."""
    batch: int
    """Number of finished batches of that epoch."""

    def write(self, folder: Path) -> None:
        """Store the trace for the next attempt, unless the folder is gone or its disk is full."""
        with suppress(OSError):
            (folder / _FILE).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Return the trace that `write` has left in the folder, if there is one. Raises UntrustedFolder."""
        make_trusted_folder(folder)
        try:
            return cls(**json.loads((folder / _FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    @property
    def position(self) -> str:
        """The position in training at which the attempt ended, in words."""
        return describe_position(self.epoch, self.batch)


def leave_trace(folder: Path, attempt: int, kills: OomKills, what: str) -> None:
    """Write the trace of an attempt that lost a process to a signal, with the attempt's position in training.

    `what` describes the kill: a sentence without its full stop. If the kernel has recently killed any process
    because memory ran out, that counts as the cause. An existing trace is kept, because it records the hang
    that caused this kill.
    """
    if (folder / _FILE).exists():
        return
    beats = read_beats(folder)
    epoch, batch = min(((beat.epoch, beat.batch) for beat in beats if beat.epoch >= 0), default=(-1, 0))
    cause: Cause = MEMORY if kills.has_killed else UNKNOWN
    Trace(attempt, cause, kills.explain(what), epoch, batch).write(folder)


def describe_position(epoch: int, batch: int) -> str:
    """Describe a position in a training run; `epoch` counts from 0."""
    return "before its first epoch" if epoch < 0 else f"after batch {batch} of epoch {epoch + 1}"


_REMEDY = {
    HANG: "Look at the stack traces in the log of the last attempt. If its batches or its validation are "
    "merely slow, increase hang_timeout",
    MEMORY: "Use a smaller batch, fewer workers or a larger machine",
}


def explain_kills(traces: Sequence[Trace | None]) -> str:
    """Say what most likely killed these consecutive attempts, and what to do about it.

    A trace is None if nothing is known about that attempt.
    """
    known = [trace for trace in traces if trace is not None]
    causes = Counter(trace.cause for trace in known if trace.cause != UNKNOWN)
    at = {(trace.epoch, trace.batch) for trace in known}
    # Every trace is known, and all attempts ended at the same position within an epoch.
    same = len(known) == len(traces) and len(at) == 1 and known[0].epoch >= 0
    if causes:
        cause, times = causes.most_common(1)[0]
        last = next(trace for trace in reversed(known) if trace.cause == cause)
        where = f", each time {last.position}: a bad sample may be the reason" if same else ""
        name = {HANG: "the process hangs", MEMORY: "the machine has too little memory"}[cause]
        return f"Most likely {name} ({times} of {len(traces)} times){where}. {last.detail}. {_REMEDY[cause]}"
    if same:
        return (
            f"Most likely a bad sample crashes the process: it died each time {known[0].position}. Look at "
            "the images and labels of the next batch, or train with another seed to see whether the process "
            "dies elsewhere"
        )
    return (
        "Most likely the machine has too little memory (`dmesg` shows whether the kernel's OOM killer killed "
        "the process), or the data crash the process. Use a smaller batch, fewer workers or a larger machine"
    )
