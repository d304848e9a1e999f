"""Collects what is wrong with a dataset that is to be converted: by kind, with places and counts."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field

from include.datasets.errors import LISTED_FINDINGS, DatasetError, Finding

log = logging.getLogger(__name__)

_KINDS = 50
"""Kinds that are told apart: the sentence of a kind may contain something from the file."""


@dataclass
class Problems:
    """The problems found so far; what names a kind is a sentence with its remedy."""

    source: str
    """The dataset as the user named it."""
    _places: dict[str, list[tuple[str, int | None]]] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, file: str, line: int | None = None) -> None:
        """Count a problem; file and line say where, and the first places of each kind are kept."""
        if kind not in self._places and len(self._places) >= _KINDS:
            kind = "there are problems of more kinds; correct the others first"
        self._counts[kind] += 1
        places = self._places.setdefault(kind, [])
        if len(places) < LISTED_FINDINGS:
            places.append((file, line))

    @property
    def count(self) -> int:
        """The number of problems."""
        return self._counts.total()

    def raise_any(self) -> None:
        """Raise DatasetError with the first places of each kind and their number, the most frequent first."""
        if not self._counts:
            return
        findings = []
        for kind, count in self._counts.most_common():
            places = self._places[kind]
            more = f" ({count:,} in total; {len(places)} are listed)" if count > len(places) else ""
            findings += [
                Finding(file, line, kind + (more if number == 0 else ""))
                for number, (file, line) in enumerate(places)
            ]
        raise DatasetError.from_findings(self.source, findings)


@dataclass
class Notes:
    """What a conversion leaves out or replaces, as the converters of Ultralytics do: logged with counts."""

    _counts: Counter[str] = field(default_factory=Counter)

    def add(self, note: str, count: int = 1) -> None:
        """Count `note`, which continues a number: '12 annotations are crowds and left out'."""
        if count:
            self._counts[note] += count

    def log_all(self, source: str) -> None:
        """Write all of them to the log."""
        for note, count in self._counts.most_common():
            log.warning("Converting %s: %s %s.", source, f"{count:,}", note)
