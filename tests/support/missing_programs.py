"""Tests that need a program which only the system's package manager brings: left out and named without it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class SystemProgram:
    """name is what people call it, and in upper case the environment variable that names another program.

    looked_for is what it is called on the PATH, path where it is if it is there, fixture what all tests use
    that need it, package Debian's.
    """

    name: str
    looked_for: str
    path: str | None
    fixture: str
    package: str

    @property
    def reason(self) -> str:
        """Why a test was left out."""
        return f"there is no {self.name}"

    def leave_out(self, items: list[pytest.Item]) -> None:
        """Skip the tests that need it before they start any service, where it is missing."""
        if self.path is not None:
            return
        missing = pytest.mark.skip(reason=self.reason)
        for item in items:
            if self.fixture in getattr(item, "fixturenames", ()):
                item.add_marker(missing)

    def name_what_was_left_out(self, terminal: pytest.TerminalReporter) -> None:
        """Name the tests, for a green run could be taken for a whole one."""
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
