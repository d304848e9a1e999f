"""Errors in training data, phrased for the person who reads a task's log."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, Self

from include.datasets.checking.findings import Finding, FoundKind, group
from include.errors import FinalError, TransientError
from include.limits import ERROR_BYTES, SUMMARY_BYTES
from include.refusals import shorten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from include.datasets.checking.findings import FoundPlace

LISTED_FINDINGS = 20
_LISTED_BYTES = 300
"""Maximum size of a listed finding in bytes; without a limit, its path alone could take a kilobyte."""


class DatasetError(FinalError):
    """The data cannot be trained on as they are, and a retry would fail in the same way.

    If a check found the problems, `findings` lists them, `warnings` lists the warnings by kind, and the text
    summarizes the problems.
    """

    def __init__(
        self, text: str, findings: Sequence[Finding] = (), warnings: Sequence[FoundKind] = ()
    ) -> None:
        super().__init__(shorten(text, ERROR_BYTES))
        self.findings = tuple(findings)
        self.warnings = tuple(warnings)

    @classmethod
    def from_findings(
        cls, source: str, findings: Sequence[Finding], warnings: Sequence[FoundKind] = ()
    ) -> Self:
        """Create an error that lists findings by kind, file and line, and counts the rest."""
        return cls("\n".join(_summarize(source, findings)), findings, warnings)

    def as_json(self) -> dict[str, Any]:
        """Return the findings and the warnings as plain values."""
        return {
            "findings": [asdict(finding) for finding in self.findings],
            "warnings": [warning.model_dump() for warning in self.warnings],
        }

    @classmethod
    def from_json(cls, text: str, found: Mapping[str, Any]) -> Self:
        """Recreate the error from its text and the result of `as_json`."""
        return cls(
            text,
            [Finding(**finding) for finding in found["findings"]],
            [FoundKind.model_validate(warning) for warning in found["warnings"]],
        )


class DatasetNotHere(DatasetError):
    """The data are unavailable because of this machine's disk or settings; another machine may have them."""


class DatasetChanged(DatasetError):
    """The content has changed since `check_dataset` checked it."""

    change: str | None = None
    """Which object has changed, without the advice for data that were checked before; None if unknown."""


class DatasetChanging(TransientError):
    """The data changed while they were listed and fetched for a check; a retry lists them again."""


class ReaderKilled(DatasetError):
    """The process that reads the data was killed by SIGKILL, most likely because memory ran out.

    During a check, a very large file may be the cause. Data that passed a check have been read once, so after
    a check a retry may succeed (include/attempt/attempt.py).
    """


def _summarize(source: str, findings: Sequence[Finding]) -> list[str]:
    """Return lines of at most SUMMARY_BYTES: for each kind of finding, a heading and some of the places."""
    problems = "1 problem" if len(findings) == 1 else f"{len(findings)} problems"
    title = f"Dataset {shorten(repr(source), _LISTED_BYTES)} has {problems}; correct them and try again:"
    kinds = group(findings)
    headings = {kind.kind: f"  {shorten(kind.heading, _LISTED_BYTES)}:" for kind in kinds}
    room = SUMMARY_BYTES - _count_bytes(title) - sum(map(_count_bytes, headings.values()))
    listed: defaultdict[str, list[str]] = defaultdict(list)
    for kind, place in _take_turns(kinds):
        line = f"    {shorten(str(place), _LISTED_BYTES)}"
        # The first line of a kind also reserves room for the line that counts the places not listed.
        room -= _count_bytes(line) + (0 if listed[kind.kind] else _count_bytes(_describe_rest(kind.count)))
        if room < 0:
            break
        listed[kind.kind].append(line)
    lines = [title]
    for kind in kinds:
        lines += [headings[kind.kind], *listed[kind.kind]]
        if rest := kind.count - len(listed[kind.kind]):
            lines.append(_describe_rest(rest))
    return lines


def _take_turns(kinds: Sequence[FoundKind]) -> list[tuple[FoundKind, FoundPlace]]:
    """Return up to LISTED_FINDINGS places: the first of each kind, then the second of each, and so on."""
    turns = zip_longest(*([(kind, place) for place in kind.places] for kind in kinds))
    return [turn for turn in chain.from_iterable(turns) if turn][:LISTED_FINDINGS]


def _describe_rest(rest: int) -> str:
    return f"    ... and {rest} more"


def _count_bytes(line: str) -> int:
    return len(f"{line}\n".encode("utf-8", "replace"))
