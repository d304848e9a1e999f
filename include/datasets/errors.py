"""What can be wrong with training data, in sentences for the person who reads a task's log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

LISTED_FINDINGS = 20


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: in which file, on which line (from 1; None is the whole file), and what."""

    file: str
    line: int | None
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.message}"


class DatasetError(Exception):
    """The data cannot be trained on as it is. Another attempt would find the same."""

    @classmethod
    def of_findings(cls, source: str, findings: Sequence[Finding]) -> Self:
        """List the first findings by file and line, and count the rest."""
        listed = [f"  {finding}" for finding in findings[:LISTED_FINDINGS]]
        if len(findings) > LISTED_FINDINGS:
            listed.append(f"  ... and {len(findings) - LISTED_FINDINGS} more")
        problems = "1 problem" if len(findings) == 1 else f"{len(findings)} problems"
        return cls("\n".join([f"Dataset {source!r} has {problems}; correct them and try again:", *listed]))


class DatasetChanged(DatasetError):
    """The content is no longer what `check_dataset` saw."""


class StorageUnavailable(Exception):
    """S3 does not answer. Not a DatasetError: the data may be good, and another attempt may reach it."""
