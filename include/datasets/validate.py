"""Checks a whole dataset before a GPU is claimed for it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.datasets.errors import DatasetError, Finding
from include.datasets.images import find_image_problem
from include.datasets.labels import LabelRules, check_labels
from include.datasets.parallel import map_in_order
from include.datasets.progress import Progress
from include.limits import FINDINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.datasets.samples import Layout, Sample

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Checked:
    findings: list[Finding]
    labelled: bool
    objects: int


def validate(layout: Layout, source: str) -> None:
    """Open every image and label file; raise DatasetError listing every problem by file and line.

    Stops after FINDINGS problems.
    """
    # A dict keeps the order and removes duplicates, such as those of an image that a list repeats.
    findings: dict[Finding, None] = {}
    progress = Progress(f"Checking {source}", sum(map(len, layout.splits.values())), "images")
    rules = LabelRules(layout.task, len(layout.names), tuple(layout.extras.get("kpt_shape", (0, 0))))

    def check(sample: Sample) -> _Checked:
        checked = _check_sample(sample, layout, rules)
        progress.advance()
        return checked

    for split, samples in layout.splits.items():
        found: dict[Finding, None] = {}
        unlabelled = objects = 0
        for checked in map_in_order(check, samples):
            found |= dict.fromkeys(checked.findings)
            unlabelled += not checked.labelled
            objects += checked.objects
            if len(findings) + len(found) >= FINDINGS:
                rest = Finding(
                    split, None, f"the check stopped after {FINDINGS:,} problems; correct them first"
                )
                raise DatasetError.from_findings(source, [*findings, *found, rest])
        if layout.task != "classify":
            findings |= dict.fromkeys(_split_findings(split, layout, unlabelled, objects))
        findings |= found
    if findings:
        raise DatasetError.from_findings(source, list(findings))


def _check_sample(sample: Sample, layout: Layout, rules: LabelRules) -> _Checked:
    findings = []
    if problem := find_image_problem(sample.image):
        findings.append(Finding(layout.relative_name(sample.image), None, problem))
    if sample.label is None or not sample.label.is_file():
        return _Checked(findings, labelled=False, objects=0)
    problems, objects = check_labels(sample.label, rules)
    findings += [Finding(layout.relative_name(sample.label), line, message) for line, message in problems]
    return _Checked(findings, labelled=True, objects=objects)


def _split_findings(split: str, layout: Layout, unlabelled: int, objects: int) -> Iterator[Finding]:
    images = len(layout.splits[split])
    first = layout.splits[split][0]
    if unlabelled == images and first.label:
        yield Finding(
            layout.relative_name(first.label),
            None,
            f"no image of {split} has a label file; for {layout.relative_name(first.image)} it is expected "
            "here (the "
            "last folder named 'images' in the path becomes 'labels'; without one, next to the image)",
        )
    elif not objects:
        yield Finding(f"{split}", None, "all label files are empty; there is nothing to learn from")
    elif unlabelled:
        log.info("%s: %d of %d images have no label file and count as background.", split, unlabelled, images)
