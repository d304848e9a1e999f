"""Finds problems that concern a whole split or dataset: missing labels, unseen classes, repeated images."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from itertools import accumulate
from typing import TYPE_CHECKING

from include.datasets.checking.depths import explain_immeasurable
from include.datasets.checking.findings import Finding
from include.datasets.reference import ClassCount

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from include.datasets.checking.checked_sample import CheckedSample
    from include.datasets.layouts.samples import Layout, Sample
    from include.datasets.rules import CheckRules, Split

_MERGED = "item"
"""Ultralytics' name for the class into which single_cls merges all classes."""

_BYTES = 16
"""Bytes kept of each SHA-256: the probability that any two of a million images share them is 1e-27."""


class SplitSummary:
    """Counts the labels of a split while it is checked."""

    def __init__(self, split: Split, rules: CheckRules) -> None:
        self._split = split
        self._needs_labels = split == "train" or rules.val
        self._images = self._labelled = self._filled = 0
        self._boxes = self._outlines = 0
        self._has_problems = self._is_measurable = False

    def add(self, checked: CheckedSample) -> None:
        """Count an image."""
        labels = checked.labels
        self._images += 1
        self._labelled += checked.is_labelled
        self._filled += not labels.is_empty
        self._has_problems = self._has_problems or bool(labels.problems)
        self._is_measurable = self._is_measurable or (labels.is_measurable and not labels.is_empty)
        if labels.objects:
            self._outlines += labels.has_outlines
            self._boxes += not labels.has_outlines

    def list_findings(self, layout: Layout, objects: int) -> Iterator[Finding]:
        """Yield errors and warnings; `objects` is the number of objects that the training run uses."""
        if layout.task == "classify":
            return
        if self._needs_labels:
            yield from self._find_lack_of_labels(layout, objects)
        if layout.task == "detect" and self._boxes and self._outlines:
            message = f"{self._boxes:,} label files have boxes, and {self._outlines:,} have outlines"
            yield Finding(self._split, None, message, "mixed-labels")

    def _find_lack_of_labels(self, layout: Layout, objects: int) -> Iterator[Finding]:
        first = layout.splits[self._split][0]
        if not self._labelled and first.label:
            message = (
                f"no image of {self._split} has a label file; {self._explain_need()}. The labels of "
                f"{layout.make_relative(first.image)} belong here: the last folder named 'images' in its "
                f"path becomes {layout.labels.folder!r}; without such a folder, labels are next to the image"
            )
            yield Finding(layout.make_relative(first.label), None, message, "no-labels")
        elif not self._filled and not self._has_problems:
            what = "all label files are empty"
            if layout.labels.are_images:
                what = "every pixel is ignored, or has no known distance"
            message = f"{what}; {self._explain_need()}"
            yield Finding(self._split, None, message, "nothing-to-learn")
        elif layout.task == "depth":
            if self._split == layout.validation and not self._is_measurable and not self._has_problems:
                yield Finding(self._split, None, explain_immeasurable(layout.extras), "nothing-to-learn")
        elif not objects and not self._has_problems:
            message = f"no label has one of the chosen classes; {self._explain_need()}"
            yield Finding(self._split, None, message, "nothing-to-learn")

    def _explain_need(self) -> str:
        if self._split == "train":
            return "there is nothing to learn from"
        return "best.pt is chosen by the metrics on this split"


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


class Digests:
    """The digests of all images of a dataset."""

    def __init__(self) -> None:
        self._digests = bytearray()

    def add(self, sha256: str) -> None:
        """Add an image by the hexadecimal SHA-256 of its file."""
        self._digests += bytes.fromhex(sha256[: 2 * _BYTES])

    def find_duplicates(self) -> Iterator[list[int]]:
        """Yield groups of images with the same content, as ascending numbers.

        Images are numbered from 0, in the order in which they were added.
        """
        import numpy as np

        table = np.frombuffer(self._digests, "<u8").reshape(-1, 2)
        order = np.lexsort((table[:, 1], table[:, 0]))  # stable: the numbers within a group ascend
        differs = (table[order[1:]] != table[order[:-1]]).any(axis=1)
        bounds = np.concatenate(([0], differs.nonzero()[0] + 1, [len(order)]))
        for first in (np.diff(bounds) > 1).nonzero()[0].tolist():
            yield order[bounds[first] : bounds[first + 1]].tolist()


def find_duplicate_images(layout: Layout, digests: Digests) -> Iterator[Finding]:
    """Yield a warning for each image that is identical to an earlier image of its split or to one in train.

    `digests` are the digests of all images, in the order of the layout. An image that is listed several times
    is not a duplicate of itself.
    """
    splits = list(layout.splits)
    ends = list(accumulate(len(layout.splits[split]) for split in splits))

    def find(number: int) -> tuple[Split, Sample]:
        index = bisect_right(ends, number)
        start = ends[index - 1] if index else 0
        return splits[index], layout.splits[splits[index]][number - start]

    for numbers in digests.find_duplicates():
        yield from _compare(layout, [find(number) for number in numbers])


def _compare(layout: Layout, same: Sequence[tuple[Split, Sample]]) -> Iterator[Finding]:
    first: dict[Split, Sample] = {}
    seen = set()
    for split, sample in same:
        if (split, sample.image) in seen:
            continue
        seen.add((split, sample.image))
        file = layout.make_relative(sample.image)
        if split != "train" and "train" in first:
            other = layout.make_relative(first["train"].image)
            message = "it is also in train" if other == file else f"{other} of train has the same content"
            yield Finding(file, None, message, "leaked-images")
        elif split in first:
            other = layout.make_relative(first[split].image)
            yield Finding(file, None, f"{other} has the same content", "duplicate-images")
        first.setdefault(split, sample)
