"""The findings of a dataset check: individual problems, and the number of problems of each kind."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from include.datasets.checking.kinds import KINDS
from include.limits import PATH_BYTES, PLACES_PER_KIND, REPORTED_MESSAGE
from include.refusals import shorten

if TYPE_CHECKING:
    from collections.abc import Iterable

    from include.datasets.checking.kinds import KindName


@dataclass(frozen=True)
class Finding:
    """One problem, or a probable problem."""

    file: str
    """The file, or another part of the dataset such as a split."""
    line: int | None
    """Counted from 1; None if the problem concerns the whole file."""
    message: str
    """What is wrong, as it follows the place and a colon."""
    kind: KindName = "other"
    """Determines under which heading the problem is listed, and whether it is an error."""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.message}"


class FoundPlace(BaseModel):
    """One place where a problem was found."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    """A path (relative to the dataset if the file is in it), or a part of the dataset such as a split."""
    line: int | None
    """Counted from 1; None if the problem concerns the whole file."""
    message: str
    """What is wrong, in at most REPORTED_MESSAGE bytes."""

    def __str__(self) -> str:
        return str(Finding(self.file, self.line, self.message))


class FoundKind(BaseModel):
    """All problems of one kind."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    """Name of the kind. Plain text, because a stored report may be from a release with other kinds."""
    title: str
    """The problem, in the plural, such as 'images without a label file'."""
    remedy: str
    """The advice for the user, as an imperative."""
    reason: str
    """Why the problem matters; empty if that is obvious."""
    count: int
    """Number of problems of this kind."""
    places: tuple[FoundPlace, ...]
    """Where the first of these problems are, at most PLACES_PER_KIND places. There may be none, because a
    label file keeps the places of only its first PLACES_PER_KIND warnings, whatever their kinds."""

    @property
    def heading(self) -> str:
        """Title, count and remedy, as one line."""
        title = self.title[0].upper() + self.title[1:]
        return f"{title} ({self.count:,}); {self.remedy}"


class Collection:
    """Counts findings by kind, and keeps the first places of each kind."""

    def __init__(self) -> None:
        self._counts: Counter[KindName] = Counter()
        self._places: defaultdict[KindName, list[FoundPlace]] = defaultdict(list)

    def add(self, finding: Finding) -> None:
        """Count a finding."""
        self.count(finding.kind)
        places = self._places[finding.kind]
        if len(places) < PLACES_PER_KIND:
            file, message = shorten(finding.file, PATH_BYTES), shorten(finding.message, REPORTED_MESSAGE)
            places.append(FoundPlace(file=file, line=finding.line, message=message))

    def count(self, kind: KindName, number: int = 1) -> None:
        """Count findings without keeping their places."""
        self._counts[kind] += number

    def list_kinds(self) -> tuple[FoundKind, ...]:
        """Return the findings by kind, in the order of KINDS."""
        return tuple(
            FoundKind(
                kind=name,
                title=kind.title,
                remedy=kind.remedy,
                reason=kind.reason,
                count=self._counts[name],
                places=tuple(self._places[name]),
            )
            for name, kind in KINDS.items()
            if name in self._counts
        )


def group(findings: Iterable[Finding]) -> tuple[FoundKind, ...]:
    """Return the findings by kind."""
    collection = Collection()
    for finding in findings:
        collection.add(finding)
    return collection.list_kinds()
