"""Finds problems that concern a whole split, such as a lack of labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.datasets.checking.findings import Finding
from include.datasets.checking.maps import explain_immeasurable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.datasets.checking.checked_sample import CheckedSample
    from include.datasets.layouts.samples import Layout
    from include.datasets.rules import CheckRules, Split


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
            yield Finding(layout.make_relative(first.label), None, self._explain_missing(layout), "no-labels")
        elif not self._filled and not self._has_problems:
            what = "all label files are empty"
            if layout.labels.are_images:
                what = "every pixel is ignored, or has no known distance"
            message = f"{what}; {self._explain_need()}"
            yield Finding(self._split, None, message, "nothing-to-learn")
        elif layout.task == "depth":
            if self._split == layout.validation and not self._is_measurable and not self._has_problems:
                yield Finding(self._split, None, explain_immeasurable(layout), "nothing-to-learn")
        elif not objects and not self._has_problems:
            message = f"no label has one of the chosen classes; {self._explain_need()}"
            yield Finding(self._split, None, message, "nothing-to-learn")

    def _explain_missing(self, layout: Layout) -> str:
        first = layout.splits[self._split][0]
        return (
            f"no image of {self._split} has a label file; {self._explain_need()}. For "
            f"{layout.make_relative(first.image)}, the file is expected here: the last folder named 'images' "
            f"in the path becomes {layout.labels.folder!r}; without such a folder, the file is next to the "
            "image"
        )

    def _explain_need(self) -> str:
        if self._split == "train":
            return "there is nothing to learn from"
        return "best.pt is chosen by the metrics on this split"
