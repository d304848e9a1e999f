"""What can only be said about a split as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.datasets.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.datasets.checked_sample import CheckedSample
    from include.datasets.samples import Layout


class SplitSummary:
    """Counts the labels of a split while it is checked."""

    def __init__(self, split: str) -> None:
        self._split = split
        self._images = self._labelled = self._objects = 0
        self._boxes = self._outlines = 0
        self._bad = False

    def add(self, checked: CheckedSample) -> None:
        """Count an image."""
        labels = checked.labels
        self._images += 1
        self._labelled += checked.labelled
        self._objects += labels.objects
        self._bad = self._bad or bool(labels.problems)
        if labels.objects:
            self._outlines += labels.outlines
            self._boxes += not labels.outlines

    def findings(self, layout: Layout, objects: int) -> Iterator[Finding]:
        """Yield what is wrong or peculiar; objects is the number that are trained on or validated with."""
        if layout.task == "classify":
            return
        first = layout.splits[self._split][0]
        if not self._labelled and first.label:
            yield Finding(layout.relative_name(first.label), None, self._explain_missing(layout), "no-labels")
        elif not self._objects and not self._bad:
            message = f"all label files are empty; {self._explain_need()}"
            yield Finding(self._split, None, message, "nothing-to-learn")
        elif not objects and not self._bad:
            message = f"no label is of one of the chosen classes; {self._explain_need()}"
            yield Finding(self._split, None, message, "nothing-to-learn")
        if layout.task == "detect" and self._boxes and self._outlines:
            message = f"{self._boxes:,} label files have boxes, and {self._outlines:,} have outlines"
            yield Finding(self._split, None, message, "mixed-labels")

    def _explain_missing(self, layout: Layout) -> str:
        first = layout.splits[self._split][0]
        return (
            f"no image of {self._split} has a label file; for {layout.relative_name(first.image)} it is "
            "expected here (the last folder named 'images' in the path becomes 'labels'; without one, next "
            f"to the image): {self._explain_need()}"
        )

    def _explain_need(self) -> str:
        if self._split == "train":
            return "there is nothing to learn from"
        return "best.pt is chosen by what is measured on this split"
