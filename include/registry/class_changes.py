"""Compares the classes of two versions of a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from include.datasets.reference import ClassCount

if TYPE_CHECKING:
    from collections.abc import Sequence

LISTED = 500
"""Number of classes that are named; most detection datasets have fewer."""


class ClassChange(BaseModel):
    """A class whose counts differ: before is None if the class is new, and after is None if it is gone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    before: ClassCount | None
    after: ClassCount | None


class ClassDifference(BaseModel):
    """The difference of two class tables. Classes are identified by their names."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    added: int
    """Number of classes that are new."""
    removed: int
    """Number of classes that are gone."""
    renumbered: bool
    """Whether any class has different numbers in the two versions, so that labels changed their meaning."""
    changes: list[ClassChange] = Field(max_length=LISTED)
    """The first classes that are new, are gone, or have different counts."""


def compare_classes(
    before: Sequence[ClassCount] | None, after: Sequence[ClassCount] | None
) -> ClassDifference | None:
    """Compare two class tables; None if the classes of either version were not counted."""
    if before is None or after is None:
        return None
    old, new = ({count.name: count for count in table} for table in (before, after))
    numbers = [{count.name: number for number, count in enumerate(table)} for table in (before, after)]
    names = list(dict.fromkeys([*new, *old]))
    changes = [
        ClassChange(name=name, before=old.get(name), after=new.get(name))
        for name in names
        if old.get(name) != new.get(name)
    ]
    return ClassDifference(
        added=len(new.keys() - old.keys()),
        removed=len(old.keys() - new.keys()),
        renumbered=any(numbers[0][name] != numbers[1][name] for name in old.keys() & new.keys()),
        changes=changes[:LISTED],
    )
