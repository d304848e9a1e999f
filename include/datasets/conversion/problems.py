"""Collects the problems of a dataset that is being converted, each with its places and a count."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

from include.datasets.checking.findings import Collection, Finding
from include.datasets.errors import DatasetError
from include.limits import FINDINGS

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Mapping

    from include.datasets.checking.findings import FoundKind
    from include.datasets.checking.kinds import KindName

log = logging.getLogger(__name__)


@dataclass
class Problems:
    """The problems found so far; one problem may occur in several places."""

    source: str
    """The dataset as the user named it."""
    kind: KindName
    """The kind of all these problems."""
    count: int = 0
    """The number of problems."""
    _places: dict[str, list[tuple[str, int | None]]] = field(default_factory=dict)
    """The files and lines of each problem."""

    def add(self, problem: str, file: str, line: int | None = None) -> None:
        """Add a problem, described with its remedy. Raises DatasetError once there are FINDINGS problems."""
        self._places.setdefault(problem, []).append((file, line))
        self.count += 1
        if self.count == FINDINGS:
            self.raise_any()

    def raise_any(self) -> None:
        """Raise DatasetError if there are problems; list the first place of each before any second place."""
        if not self._places:
            return
        turns = zip_longest(*map(self._list_findings, self._places))
        findings = [finding for finding in chain.from_iterable(turns) if finding]
        if self.count == FINDINGS:
            stopped = f"the conversion stopped after {FINDINGS:,} problems; correct them first"
            findings.append(Finding(self.source, None, stopped, "stopped"))
        raise DatasetError.from_findings(self.source, findings)

    def _list_findings(self, problem: str) -> Iterator[Finding]:
        """Yield a finding for each place of a problem; the first one says how many places there are."""
        places = self._places[problem]
        counted = f"{problem} ({len(places):,} times)" if len(places) > 1 else problem
        for index, (file, line) in enumerate(places):
            yield Finding(file, line, problem if index else counted, self.kind)


def warn_of_notes(notes: Mapping[str, int], source: str) -> tuple[FoundKind, ...]:
    """Return the notes of a conversion as warnings of the check."""
    found = Collection()
    for note, count in notes.items():
        found.add(Finding(source, None, f"{count:,} {note}", "conversion"))
        found.count("conversion", count - 1)
    return found.list_kinds()


def log_notes(notes: Counter[str], source: str) -> None:
    """Log the notes on skipped or replaced items, with their counts: '12 annotations describe crowds'."""
    for note, count in notes.most_common():
        log.warning("Converting %s: %s %s.", source, f"{count:,}", note)
