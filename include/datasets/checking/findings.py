"""What a check of a dataset finds: single problems, and how many there are of each kind."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from include.datasets.checking.kinds import ERRORS, KINDS
from include.limits import PATH_BYTES, PLACES_PER_KIND, REPORTED_MESSAGE
from include.refusals import shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True)
class Finding:
    """One problem, or something that probably is one."""

    file: str
    """The file, or another part of the dataset such as a split."""
    line: int | None
    """Counted from 1; None if it concerns the whole file."""
    message: str
    kind: str = "other"
    """One of KINDS."""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.message}"

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


class FoundPlace(BaseModel):
    """One place where a problem was found."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    """Path, relative to the dataset if it is inside it, or another part of the dataset such as a split."""
    line: int | None
    """Counted from 1; None if it concerns the whole file."""
    message: str

    def __str__(self) -> str:
        return str(Finding(self.file, self.line, self.message))


class FoundKind(BaseModel):
    """All problems of one kind."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    """A name that stays the same between versions of this project."""
    title: str
    """What was found, in the plural."""
    remedy: str
    """What to do about it, as an imperative."""
    reason: str
    """Why it matters; empty if that is obvious."""
    count: int
    """How often it was found."""
    places: tuple[FoundPlace, ...]
    """The first places where it was found, at most PLACES_PER_KIND. Empty if in each file with this warning
    PLACES_PER_KIND others came first."""

    @property
    def heading(self) -> str:
        """What was found, how often, and what to do about it, as one line."""
        title = self.title[0].upper() + self.title[1:]
        return f"{title} ({self.count:,}); {self.remedy}"


class Collection:
    """Counts findings by kind, and keeps the first places of each."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._places: dict[str, list[FoundPlace]] = {}

    def add(self, finding: Finding) -> None:
        """Count a finding."""
        self.count(finding.kind)
        places = self._places.setdefault(finding.kind, [])
        if len(places) < PLACES_PER_KIND:
            file, message = shorten(finding.file, PATH_BYTES), shorten(finding.message, REPORTED_MESSAGE)
            places.append(FoundPlace(file=file, line=finding.line, message=message))

    def count(self, kind: str, number: int = 1) -> None:
        """Count findings without keeping their places."""
        self._counts[kind] = self._counts.get(kind, 0) + number

    def kinds(self) -> tuple[FoundKind, ...]:
        """Return what was found, in the order of KINDS."""
        return tuple(
            FoundKind(
                kind=name,
                title=kind.title,
                remedy=kind.remedy,
                reason=kind.reason,
                count=self._counts[name],
                places=tuple(self._places.get(name, ())),
            )
            for name, kind in KINDS.items()
            if name in self._counts
        )


def group(findings: Iterable[Finding]) -> tuple[FoundKind, ...]:
    """Return the findings by kind."""
    collection = Collection()
    for finding in findings:
        collection.add(finding)
    return collection.kinds()


def total(kinds: Sequence[FoundKind]) -> int:
    """Return the number of findings of all kinds."""
    return sum(kind.count for kind in kinds)


def is_error(finding: Finding) -> bool:
    """Return whether the data cannot be trained on because of the finding."""
    return finding.kind in ERRORS
