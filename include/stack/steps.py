"""Says what is being done, and how long it took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console


@dataclass
class Step:
    """One step; result is what to tell about it when it is done."""

    result: str = "done"


@dataclass(frozen=True)
class Steps:
    """Prints to the terminal, or plain lines where there is none."""

    console: Console = field(default_factory=lambda: Console(highlight=False))

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Announce the step, and report its result and duration when it is done."""
        step = Step()
        started = time.monotonic()
        if self.console.is_terminal:
            with self.console.status(f"{title} ..."):
                yield step
        else:
            self.console.print(f"{title} ...", markup=False, soft_wrap=True)
            yield step
        seconds = time.monotonic() - started
        self.say(f"{title}: {step.result} ({seconds:.1f} s)")

    def say(self, text: str) -> None:
        """Print one line, as it is."""
        self.console.print(text, markup=False, soft_wrap=True)


def quiet() -> Steps:
    """Steps that print nothing."""
    return Steps(Console(quiet=True))
