"""Checks one image of a dataset with its labels."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from include.datasets.checking.depths import build_depth_rules, check_depth
from include.datasets.checking.findings import Finding
from include.datasets.checking.images import ImageRules, UnusableImage, reserve_pixels, verify_image
from include.datasets.checking.label_lines import CheckedLabels, LabelProblem, LabelRules
from include.datasets.checking.labels import check_labels
from include.datasets.checking.masks import MaskRules, check_mask
from include.datasets.disk import is_file, is_lack_of_memory, is_passing
from include.limits import PLACES_PER_KIND

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.datasets.checking.depths import DepthRules
    from include.datasets.checking.images import ImageFacts
    from include.datasets.checking.kinds import KindName
    from include.datasets.checking.known_files import KnownFiles
    from include.datasets.layouts.samples import Layout, Sample
    from include.datasets.rules import CheckRules


_EMPTY_FILE: tuple[str, KindName] = ("it is empty", "empty-labels")
"""Message and kind of the warning about a label file without labels."""

_EMPTY_MAP: tuple[str, KindName] = ("nothing can be learnt from it", "empty-maps")
"""Message and kind of the warning about a map without a class or a distance."""

_ARRAY = ".npy"


@dataclass(frozen=True)
class SampleRules:
    """The rules that the images and labels of a dataset must follow."""

    images: ImageRules
    """How the images are read."""
    labels: LabelRules
    """The rules for labels that are lines of text."""
    maps: MaskRules | DepthRules | None
    """The rules for masks or depth maps; None if the labels are lines of text."""
    class_ids: Mapping[str, int]
    """Class ids by name."""

    @cached_property
    def for_labels(self) -> str:
        """The rules for labels or maps, as a string that identifies them."""
        return repr(self.maps or self.labels)

    @classmethod
    def of(cls, layout: Layout, rules: CheckRules) -> SampleRules:
        """Return the rules for a dataset and a training run."""
        keypoints = layout.extras.get("kpt_shape", (0, 0))
        return cls(
            ImageRules(layout.extras.get("channels", 3), for_classify=layout.task == "classify"),
            LabelRules(layout.task, len(layout.names), (keypoints[0], keypoints[1]), rules.single_cls),
            _build_map_rules(layout),
            {name: number for number, name in layout.names.items()},
        )


@dataclass(frozen=True)
class CheckedSample:
    """The result of checking one image and its labels."""

    sample: Sample
    """The image and its label file, as listed in the layout."""
    findings: list[Finding]
    """All errors, and the first warnings."""
    image: ImageFacts | None
    """None if the image cannot be used."""
    labels: CheckedLabels
    """Empty, without a problem, if the label file is missing. For classify, the folder's class."""
    is_labelled: bool
    """Whether the image has a label file, even an empty one; always true for classify."""
    further: Mapping[KindName, int] = field(default_factory=Counter)
    """Number of warnings that are not among the findings, by kind."""


def check_sample(sample: Sample, layout: Layout, rules: SampleRules, known: KnownFiles) -> CheckedSample:
    """Check an image and its labels."""
    findings, image = [], None
    try:
        image = known.read_image(Path(sample.image), sample.name, rules.images)
    except UnusableImage as problem:
        findings.append(Finding(layout.make_relative(sample.image), None, str(problem), problem.kind))
    if sample.label is None:
        folder = sample.name.partition("/")[0]
        classes = {rules.class_ids[folder]: 1} if folder in rules.class_ids else {}
        return CheckedSample(sample, findings, image, CheckedLabels(classes=classes), is_labelled=True)
    path, name = Path(sample.label), layout.make_relative(sample.label)
    size = (image.width, image.height) if image else None
    if not is_file(sample.label):
        kind: KindName = "missing-labels" if rules.maps is None else "label-map"
        what = "label file" if rules.maps is None else name
        findings.append(Finding(layout.make_relative(sample.image), None, f"it has no {what}", kind))
        return CheckedSample(sample, findings, image, CheckedLabels(), is_labelled=False)
    if rules.maps is None:
        check, empty = partial(check_labels, path, rules.labels, size), _EMPTY_FILE
    else:
        check, empty = partial(check_map, path, sample.suffix, rules.maps, size), _EMPTY_MAP
    labels = known.read_labels(path, f"{sample.suffix} {rules.for_labels} {size}", check)
    if not labels.problems and labels.is_empty and image:
        findings.append(Finding(name, None, *empty))
    warnings = labels.warnings[:PLACES_PER_KIND]
    listed = (*labels.problems, *warnings)
    findings += [Finding(name, found.line, found.message, found.kind) for found in listed]
    further = labels.warned - Counter(found.kind for found in warnings)
    return CheckedSample(sample, findings, image, labels, is_labelled=True, further=further)


def _build_map_rules(layout: Layout) -> MaskRules | DepthRules | None:
    """Return the rules for the maps of a dataset; None if its labels are lines of text."""
    if not layout.labels.are_images:
        return None
    if layout.task == "depth":
        return build_depth_rules(layout.extras)
    return MaskRules(len(layout.names), layout.extras.get("label_mapping", {}))


def check_map(
    path: Path, suffix: str, rules: MaskRules | DepthRules, size: tuple[int, int] | None
) -> CheckedLabels:
    """Check a mask or a depth map.

    `suffix` determines its format; `size` is the width and height of its image, or None if the image cannot
    be read. Raises OSErrors after which a retry may succeed.
    """
    checked = CheckedLabels()
    try:
        with path.open("rb") as file:
            checked.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if size is not None:
            _check_pixels(path, suffix, rules, size, checked)
    except Exception as error:  # decoders raise all kinds of errors
        if is_passing(error):
            raise
        checked.problems.append(LabelProblem(None, _explain_unreadable(error), "label-map"))
    return checked


def _check_pixels(
    path: Path, suffix: str, rules: MaskRules | DepthRules, size: tuple[int, int], checked: CheckedLabels
) -> None:
    width, height = (0, 0) if suffix == _ARRAY else verify_image(path)  # an array is read in small pieces
    with reserve_pixels(width, height):
        if isinstance(rules, MaskRules):
            classes, checked.has_usable_pixels = check_mask(path, size, rules)
            checked.classes = dict.fromkeys(classes, 1)
        else:
            checked.has_usable_pixels, checked.is_measurable = check_depth(path, suffix, size, rules)


def _explain_unreadable(error: Exception) -> str:
    if isinstance(error, UnusableImage):
        return str(error)
    if is_lack_of_memory(error):
        return "decoding it takes more memory than a check may use; scale it down"
    return f"it is damaged ({error}); restore it"
