"""What an attempt that was killed leaves behind on its machine, and what three of them say together."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from include.training.heartbeat import read_beats
from include.trusted_folders import make_trusted_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.watchdog.memory import OomKills

_FILE = "trace.json"

HANG, MEMORY, UNKNOWN = "hang", "memory", "unknown"


@dataclass(frozen=True)
class Trace:
    """How an attempt ended that could not say so itself.

    cause is HANG, MEMORY or UNKNOWN. detail is a sentence without its full stop. epoch is the one that it was
    in, from 0 (-1: before the first), batch how many of its batches it had finished.
    """

    attempt: int
    cause: str
    detail: str
    epoch: int
    batch: int

    def write(self, folder: Path) -> None:
        """Leave it for the next attempt, if the folder is still there."""
        with suppress(OSError):
            (folder / _FILE).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read what the attempt before this one left on this machine. Raises UntrustedFolder."""
        make_trusted_folder(folder)
        try:
            return cls(**json.loads((folder / _FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    @property
    def place(self) -> str:
        """Where it was, for a person."""
        return place(self.epoch, self.batch)

    def as_json(self) -> dict[str, Any]:
        """Return what Trace(**…) takes."""
        return asdict(self)


def bury(folder: Path, attempt: int, kills: OomKills, what: str) -> None:
    """Leave a trace of an attempt of which a process was killed, and of where the attempt was.

    what says so in a sentence without its full stop.
    """
    beats = read_beats(folder)
    epoch, batch = min(((beat.epoch, beat.batch) for beat in beats if beat.epoch >= 0), default=(-1, 0))
    cause = MEMORY if kills.struck else UNKNOWN
    detail = f"{what}: by the kernel, for lack of memory" if kills.struck else what
    Trace(attempt, cause, detail, epoch, batch).write(folder)


def place(epoch: int, batch: int) -> str:
    """Say where in a training that is; epoch counts from 0."""
    return "before its first epoch" if epoch < 0 else f"after batch {batch} of epoch {epoch + 1}"


_REMEDY = {
    HANG: "Look at the stacks in the log of the last attempt. If its batches or its validation only take "
    "long, give a larger hang_timeout",
    MEMORY: "Use a smaller batch, fewer workers or a larger machine",
}


def likely_cause(traces: Sequence[Trace | None]) -> str:
    """Say what has most likely killed these attempts in a row, and what to do. None: nothing is known."""
    known = [trace for trace in traces if trace is not None]
    causes = Counter(trace.cause for trace in known if trace.cause != UNKNOWN)
    at = {(trace.epoch, trace.batch) for trace in known}
    if causes:
        cause, times = causes.most_common(1)[0]
        last = next(trace for trace in reversed(known) if trace.cause == cause)
        same = _same(at, known, traces)
        where = f", each time {last.place}: a bad sample may be the reason" if same else ""
        name = {HANG: "it hangs", MEMORY: "its machine has too little memory"}[cause]
        return f"Most likely {name} ({times} of {len(traces)} times){where}. {last.detail}. {_REMEDY[cause]}"
    if _same(at, known, traces):
        return (
            f"Most likely a bad sample makes it crash: it died each time {known[0].place}. Look at the "
            "images and labels of the next batch, or train with another seed and see whether the place moves"
        )
    return (
        "Most likely its machine has too little memory (`dmesg` shows whether the kernel's OOM killer ended "
        "it), or its data make it crash. Use a smaller batch, fewer workers or a larger machine"
    )


def _same(at: set[tuple[int, int]], known: Sequence[Trace], traces: Sequence[Trace | None]) -> bool:
    """Whether all of them ended at one place, in an epoch."""
    return len(known) == len(traces) and len(at) == 1 and min(at)[0] >= 0
