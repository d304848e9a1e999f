"""Prints each step and how long it took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console

from include.plain_text import escape_controls


@dataclass
class Step:
    """One step."""

    result: str = "done"
    """Printed when the step is done."""


@dataclass(frozen=True)
class Steps:
    """Prints steps to the terminal, or as plain lines if the output is not a terminal."""

    console: Console = field(default_factory=lambda: Console(highlight=False))
    """Where the steps are printed: by default, standard output."""

    @classmethod
    def quiet(cls) -> Steps:
        """Return steps that print nothing."""
        return cls(Console(quiet=True))

    @contextmanager
    def step(self, title: str, *, with_spinner: bool = True) -> Iterator[Step]:
        """Announce the step, and report its result and duration when it is done.

        Pass `with_spinner=False` for steps that print their own lines: the announcement then stays on the
        screen.
        """
        step = Step()
        started = time.monotonic()
        if with_spinner and self.console.is_terminal:
            with self.console.status(f"{title} ..."):
                yield step
        else:
            self.say(f"{title} ...")
            yield step
        self.say(f"{title}: {step.result} ({time.monotonic() - started:.1f} s)")

    def say(self, text: str) -> None:
        """Print the text literally, with control characters escaped."""
        self.console.print(escape_controls(text), markup=False, soft_wrap=True)
