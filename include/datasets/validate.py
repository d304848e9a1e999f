"""Checks a whole data set before a GPU is taken for it."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.datasets.errors import DatasetError, Finding
from include.datasets.fingerprint import THREADS
from include.datasets.images import image_problem
from include.datasets.labels import LabelRules, check_labels
from include.datasets.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from include.datasets.samples import Layout, Sample

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Checked:
    findings: list[Finding]
    labelled: bool
    objects: int


def validate(layout: Layout, source: str) -> None:
    """Open every image and every label file; raises DatasetError with all that is wrong, by file and line."""
    findings: list[Finding] = []
    progress = Progress(f"Checking {source}", sum(map(len, layout.splits.values())), "images")
    rules = LabelRules(layout.task, len(layout.names), tuple(layout.extras.get("kpt_shape", (0, 0))))

    def check(sample: Sample) -> _Checked:
        checked = _check(sample, layout, rules)
        progress.advance()
        return checked

    with ThreadPoolExecutor(THREADS) as pool:
        for split, samples in layout.splits.items():
            checks = list(pool.map(check, samples))
            if layout.task != "classify":
                findings += _split_findings(split, samples, checks, layout)
            findings += _once(finding for checked in checks for finding in checked.findings)
    if findings:
        raise DatasetError.of_findings(source, findings)


def _check(sample: Sample, layout: Layout, rules: LabelRules) -> _Checked:
    findings = []
    if problem := image_problem(sample.image):
        findings.append(Finding(layout.shown(sample.image), None, problem))
    if sample.label is None or not sample.label.is_file():
        return _Checked(findings, labelled=False, objects=0)
    problems, objects = check_labels(sample.label, rules)
    findings += [Finding(layout.shown(sample.label), line, message) for line, message in problems]
    return _Checked(findings, labelled=True, objects=objects)


def _split_findings(
    split: str, samples: Sequence[Sample], checks: Sequence[_Checked], layout: Layout
) -> Iterator[Finding]:
    missing = sum(not checked.labelled for checked in checks)
    first = samples[0]
    if missing == len(checks) and first.label:
        yield Finding(
            layout.shown(first.label),
            None,
            f"no image of {split} has a label file; for {layout.shown(first.image)} it is expected here (the "
            "last folder "
            "'images' in the path becomes 'labels'; without one it lies beside the image)",
        )
    elif not any(checked.objects for checked in checks):
        yield Finding(f"{split}", None, "all label files are empty; there is nothing to learn from")
    elif missing:
        log.info(
            "%s: %d of %d images have no label file and count as background.", split, missing, len(checks)
        )


def _once(findings: Iterable[Finding]) -> list[Finding]:
    """Without repetitions, as of an image that a list repeats or a label file that two images share."""
    return list(dict.fromkeys(findings))
