"""Tests that need a program that only the system's package manager has: without it, skipped and listed."""

from __future__ import annotations

from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class SystemProgram:
    """name is what people call it; in upper case, the environment variable that names a different program.

    looked_for is what it is called on the PATH, path where it was found, if at all, fixture what all tests
    that need it use, package what Debian calls it.
    """

    name: str
    looked_for: str
    path: str | None
    fixture: str
    package: str

    @property
    def reason(self) -> str:
        """Why a test was skipped."""
        return f"there is no {self.name}"

    def leave_out(self, items: list[pytest.Item]) -> None:
        """If it is missing, skip the tests that need it before they start any service."""
        if self.path is not None:
            return
        missing = pytest.mark.skip(reason=self.reason)
        for item in items:
            if self.fixture in getattr(item, "fixturenames", ()):
                item.add_marker(missing)

    def name_what_was_left_out(self, terminal: pytest.TerminalReporter) -> None:
        """Name the skipped tests, because a green run could be mistaken for a whole one."""
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
