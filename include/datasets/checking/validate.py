"""Checks a whole dataset before a GPU is claimed for it, and writes the dataset's manifest.

The manifest is one line of JSON for each image, with the hashes of the image and its labels:

    {"split": "train", "name": "a/b.jpg", "image": "<sha256>", "label": "<sha256, or null>", "width": 640,
     "height": 480, "classes": {"0": 3}}

`name` is the image's path within its split. `classes` maps each class id in the label file to its number of
objects. Lines are in the order of the splits and, within a split, in the order in which its images are
listed. The same dataset always gives the same lines.
"""

from __future__ import annotations

import gzip
import json
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from include.datasets.checking.checked_sample import SampleRules, check_sample
from include.datasets.checking.findings import Collection, Finding
from include.datasets.checking.kinds import ERRORS
from include.datasets.checking.known_files import KnownFiles, NotKnown
from include.datasets.checking.summaries import Digests, SplitSummary, Tally, find_duplicate_images
from include.datasets.errors import DatasetError
from include.datasets.fingerprint import ContentDigest
from include.datasets.parallel import map_in_order
from include.datasets.progress import ProgressLog
from include.datasets.rules import CheckRules
from include.limits import FINDINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from include.datasets.checking.checked_sample import CheckedSample
    from include.datasets.checking.findings import FoundKind
    from include.datasets.checking.images import ImageFacts
    from include.datasets.layouts.samples import Layout, Sample
    from include.datasets.reference import ClassCount
    from include.datasets.rules import Split


_USUAL_RULES = CheckRules()
_LEVEL = 4
"""Most of a line of the manifest is hashes, which a higher compression level does not make smaller."""


@dataclass(frozen=True)
class ValidationResult:
    """The result of checking a dataset without errors."""

    fingerprint: str
    """Identifies the content of the files."""
    class_table: tuple[ClassCount, ...]
    """In the order of the class ids."""
    warnings: tuple[FoundKind, ...]
    """Probable mistakes in the data that do not prevent training."""


def validate_dataset(
    layout: Layout,
    source: str,
    rules: CheckRules = _USUAL_RULES,
    manifest: Path | None = None,
    known: KnownFiles | None = None,
) -> ValidationResult:
    """Read every image and every label file, except those whose results are in `known`.

    Stops after FINDINGS errors. `manifest` is the path of the manifest to write. Raises DatasetError, which
    lists the problems by kind, file and line, and OSErrors after which a retry may succeed.
    """
    check = _Check(layout, source, rules, known or KnownFiles())
    check.add(chain(layout.warnings, _find_unknown_classes(layout, rules)))
    content = ContentDigest(layout)
    with _write_manifest(manifest) as write:
        for split in layout.splits:
            content.begin_split(split)
            for checked in check.check_split(split):
                if checked.image is None:  # the image has an error, so this check will fail
                    continue
                content.add(checked.sample.name, checked.image.sha256, checked.labels.sha256)
                write(_build_manifest_line(split, checked, checked.image))
    check.require_good()
    check.add(chain(check.tally.find_warnings(), find_duplicate_images(layout, check.digests)))
    return ValidationResult(content.fingerprint(), check.tally.build_table(), check.warnings.list_kinds())


class _Check:
    """One pass through a dataset, with the findings so far."""

    def __init__(self, layout: Layout, source: str, rules: CheckRules, known: KnownFiles) -> None:
        self._layout, self._source, self._rules, self._known = layout, source, rules, known
        self._samples = SampleRules.of(layout, rules)
        # A dict keeps the order and removes duplicates, such as the errors of an image that is listed twice.
        self._errors: dict[Finding, None] = {}
        self.warnings = Collection()
        # The single name of a depth dataset is not a class.
        self.tally = Tally({} if layout.task == "depth" else layout.names, rules)
        self.digests = Digests()
        total = sum(map(len, layout.splits.values()))
        self._progress = ProgressLog(f"Checking {source}", total, "images")

    def add(self, findings: Iterable[Finding]) -> None:
        """Add errors and warnings."""
        for finding in findings:
            if finding.kind in ERRORS:
                self._errors[finding] = None
            else:
                self.warnings.add(finding)

    def require_good(self) -> None:
        """Raise DatasetError if there is an error."""
        if self._errors:
            raise DatasetError.from_findings(self._source, list(self._errors), self.warnings.list_kinds())

    def check_split(self, split: Split) -> Iterator[CheckedSample]:
        """Check the images of a split, and yield the result for each."""
        summary = SplitSummary(split, self._rules)
        samples = self._layout.splits[split]
        for checked in map_in_order(self._check_sample, samples, shortcut=self._recall_sample):
            self._progress.advance()
            summary.add(checked)
            self._add_sample(split, checked)
            if len(self._errors) >= FINDINGS:
                rest = f"the check stopped after {FINDINGS:,} problems; correct them first"
                self.add([Finding(split, None, rest, "stopped")])
                self.require_good()
            yield checked
        self.add(summary.list_findings(self._layout, self.tally.count_objects(split)))

    def _check_sample(self, sample: Sample) -> CheckedSample:
        return check_sample(sample, self._layout, self._samples, self._known)

    def _recall_sample(self, sample: Sample) -> CheckedSample | None:
        """Return the result of an earlier check of the image and its labels; None if there is none."""
        try:
            return check_sample(sample, self._layout, self._samples, self._known.without_reading)
        except NotKnown:
            return None

    def _add_sample(self, split: Split, checked: CheckedSample) -> None:
        self.add(checked.findings)
        for kind, number in checked.further.items():
            self.warnings.count(kind, number)
        if checked.image is not None:
            self.digests.add(checked.image.sha256)
        if not checked.labels.problems:
            self.tally.add(split, checked.labels.classes)


def _find_unknown_classes(layout: Layout, rules: CheckRules) -> Iterator[Finding]:
    """Yield an error for each class id that the training run selects but the dataset lacks."""
    if rules.classes is None or rules.single_cls or layout.task == "classify":
        return
    for number in rules.classes:
        if number not in layout.names:
            message = (
                f"class {number} is not in 0..{len(layout.names) - 1}, so training would ignore it without a "
                "warning"
            )
            yield Finding("classes", None, message, "label-class")


@contextmanager
def _write_manifest(path: Path | None) -> Iterator[Callable[[Mapping[str, Any]], object]]:
    """Yield a function that writes a line; without a path, the function does nothing."""
    if path is None:
        yield lambda _: None
        return
    with path.open("wb") as raw, gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0) as file:
        yield lambda line: file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")


def _build_manifest_line(split: Split, checked: CheckedSample, image: ImageFacts) -> dict[str, Any]:
    labels = checked.labels
    return {
        "split": split,
        # JSON is UTF-8, but a file's name may not be.
        "name": checked.sample.name.encode("utf-8", "backslashreplace").decode(),
        "image": image.sha256,
        "label": labels.sha256,
        "width": image.width,
        "height": image.height,
        "classes": {str(number): objects for number, objects in labels.classes.items()},
    }
