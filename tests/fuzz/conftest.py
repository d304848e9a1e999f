"""Feeds a fixed number of inputs of each kind to a check, and counts the outcomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.fuzz.watch import bounded_memory, watch_acts


@dataclass
class Tally:
    """The outcomes for one kind of input."""

    tried: int = 0
    accepted: int = 0
    refused: int = 0


_TALLIES = pytest.StashKey[dict[str, Tally]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TALLIES] = {}


class Fuzz:
    """Feeds generated inputs to a check: always the same ones, and `--fuzz-inputs` of them."""

    def __init__(self, inputs: int, tally: Tally) -> None:
        self._inputs, self._tally = inputs, tally

    def __call__(
        self,
        inputs: st.SearchStrategy[Any],
        write: Callable[[Any], object],
        check: Callable[[], bool],
        folder: Path,
    ) -> None:
        """Let `check` decide, within a gigabyte of memory, whether to accept the input that `write` wrote.

        Fail for any exception other than the check's own refusal, and for any act outside `folder`.
        """

        @given(inputs)
        @settings(
            max_examples=self._inputs,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],  # shrinking a bomb takes minutes
            suppress_health_check=list(HealthCheck),
        )
        def handle(content: Any) -> None:
            write(content)
            with bounded_memory(), watch_acts(folder) as watch:
                accepted = check()
            assert not watch.acts
            self._tally.tried += 1
            if accepted:
                self._tally.accepted += 1
            else:
                self._tally.refused += 1

        handle()
        assert self._tally.tried >= min(self._inputs, 10)


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> Fuzz:
    """Return a fuzzer with the requested number of inputs."""
    tally = request.config.stash[_TALLIES].setdefault(request.node.name, Tally())
    return Fuzz(request.config.getoption("--fuzz-inputs"), tally)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    tallies = config.stash[_TALLIES]
    if tallies:
        terminalreporter.section("untrusted input")
        for name, tally in tallies.items():
            terminalreporter.write_line(
                f"{name}: {tally.tried} tried, {tally.accepted} accepted, {tally.refused} refused"
            )
