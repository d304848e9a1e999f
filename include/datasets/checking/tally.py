"""Counts the objects of each class in each split while a dataset is checked."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from include.datasets.checking.findings import Finding
from include.datasets.reference import ClassCount

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from include.datasets.rules import CheckRules, Split


_MERGED = "item"
"""Ultralytics' name for the class into which single_cls merges all classes."""


class Tally:
    """Counts objects, and images with objects, by split and by the classes of the training run."""

    def __init__(self, names: Mapping[int, str], rules: CheckRules) -> None:
        self._names = [_MERGED] if rules.single_cls and names else [names[number] for number in sorted(names)]
        self._rules = rules
        self._objects: defaultdict[Split, Counter[int]] = defaultdict(Counter)
        self._images: defaultdict[Split, Counter[int]] = defaultdict(Counter)

    def add(self, split: Split, classes: Mapping[int, int]) -> None:
        """Count the objects of one image; `classes` has their number for each class id."""
        merged = Counter[int]()
        for number, objects in classes.items():
            if self._rules.classes is None or number in self._rules.classes:
                merged[0 if self._rules.single_cls else number] += objects
        self._objects[split].update(merged)
        self._images[split].update(merged.keys())

    def count_objects(self, split: Split) -> int:
        """Return how many objects of the split are used for training or validation."""
        return self._objects[split].total()

    def build_table(self) -> tuple[ClassCount, ...]:
        """Return the counts in the order of the class ids."""
        val = self._rules.split
        return tuple(
            ClassCount(
                name=name,
                train=self._objects["train"][number],
                val=self._objects[val][number],
                train_images=self._images["train"][number],
                val_images=self._images[val][number],
            )
            for number, name in enumerate(self._names)
        )

    def find_warnings(self) -> Iterator[Finding]:
        """Yield warnings about the classes."""
        table = self.build_table()
        yield from _find_shared_names(table)
        for number, count in enumerate(table):
            if self._rules.classes is not None and number not in self._rules.classes:
                continue
            if not count.train:
                yield Finding(count.name, None, f"class {number} has no instance in train", "class-unseen")
            elif not count.val:
                message = (
                    f"class {number} has {count.train:,} instances in train, but none in {self._rules.split}"
                )
                yield Finding(count.name, None, message, "class-unvalidated")


def _find_shared_names(table: Sequence[ClassCount]) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for number, count in enumerate(table):
        if (earlier := first.setdefault(count.name, number)) != number:
            message = f"classes {earlier} and {number} have the same name"
            yield Finding(count.name, None, message, "class-names")
