"""Skips and lists tests that need a missing program which only the system's package manager provides."""

from __future__ import annotations

from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class SystemProgram:
    """A program of the system. `name` in upper case is the environment variable that overrides the program.

    `looked_for` is its name on the PATH, `path` is its location if it was found, `fixture` is the fixture
    of all tests that need the program, and `package` is its Debian package.
    """

    name: str
    looked_for: str
    path: str | None
    fixture: str
    package: str

    @property
    def reason(self) -> str:
        """Return the reason why a test is skipped."""
        return f"there is no {self.name}"

    def leave_out(self, items: list[pytest.Item]) -> None:
        """If the program is missing, skip the tests that need it before they start any service."""
        if self.path is not None:
            return
        missing = pytest.mark.skip(reason=self.reason)
        for item in items:
            if self.fixture in getattr(item, "fixturenames", ()):
                item.add_marker(missing)

    def name_what_was_left_out(self, terminal: pytest.TerminalReporter) -> None:
        """List the skipped tests, because a successful run could be mistaken for a complete one."""
        skipped = terminal.stats.get("skipped", [])
        names = sorted(report.nodeid for report in skipped if self.reason in str(report.longrepr))
        if not names:
            return
        terminal.section(f"tests that were left out without {self.name}", yellow=True)
        for name in names:
            terminal.line(name)
        terminal.line(
            f"{len(names)} tests need {self.name}, and there is none ({self.looked_for}). Install it, for "
            f"example with `apt-get install {self.package}`, or name it in the environment variable "
            f"{self.name.upper()}."
        )
