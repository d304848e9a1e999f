"""Errors in training data, phrased for the person who reads a task's log."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from include.errors import FinalError
from include.limits import ERROR_BYTES, SUMMARY_BYTES
from include.refusals import shorten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LISTED_FINDINGS = 20
_LISTED_BYTES = 300
"""Limit for one finding, which may contain a path of a kilobyte."""


@dataclass(frozen=True)
class Finding:
    """One problem: the file, the line (from 1; None means the whole file), and a message."""

    file: str
    line: int | None
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.message}"


class DatasetError(FinalError):
    """The data cannot be trained on as they are, and a retry would fail in the same way.

    Its text is a summary; findings are all the problems, if a check went through the files.
    """

    def __init__(self, text: str, findings: Sequence[Finding] = ()) -> None:
        super().__init__(shorten(text, ERROR_BYTES))
        self.findings = tuple(findings)

    @classmethod
    def from_findings(cls, source: str, findings: Sequence[Finding]) -> Self:
        """Create an error that lists the first findings by file and line, and counts the rest."""
        problems = "1 problem" if len(findings) == 1 else f"{len(findings)} problems"
        lines = [f"Dataset {source!r} has {problems}; correct them and try again:"]
        room = SUMMARY_BYTES - _size(lines[0]) - _size(f"  ... and {len(findings)} more")
        for finding in findings[:LISTED_FINDINGS]:
            line = f"  {shorten(str(finding), _LISTED_BYTES)}"
            room -= _size(line)
            if room < 0:
                break
            lines.append(line)
        if (rest := len(findings) - len(lines) + 1) > 0:
            lines.append(f"  ... and {rest} more")
        return cls("\n".join(lines), findings)

    def as_json(self) -> list[dict[str, Any]]:
        """Return the findings as plain values."""
        return [asdict(finding) for finding in self.findings]

    @classmethod
    def from_json(cls, text: str, findings: Sequence[Mapping[str, Any]]) -> Self:
        """Recreate the error from its text and the result of `as_json`."""
        return cls(text, [Finding(**finding) for finding in findings])


class DatasetChanged(DatasetError):
    """The content is no longer what `check_dataset` checked."""


def _size(line: str) -> int:
    return len(f"{line}\n".encode("utf-8", "replace"))
