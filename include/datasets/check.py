"""Finds a data set and checks it, so that what is wrong shows before a GPU is taken."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from include.datasets import digits
from include.datasets.fetch import locate
from include.datasets.fingerprint import content_fingerprint, stat_digest
from include.datasets.layout import read_layout
from include.datasets.reference import DatasetReference
from include.datasets.sources import Digits, parse_source
from include.datasets.validate import validate

if TYPE_CHECKING:
    from pathlib import Path

    from include.datasets.samples import Layout
    from include.datasets.storage import ObjectReader

log = logging.getLogger(__name__)


def check_dataset(source: str, task: str, cache: Path, s3: ObjectReader | None) -> DatasetReference:
    """Find the data of `source`, fetch them into `cache` if they are in S3, and check every image and label.

    Raises DatasetError, which lists what is wrong by file and line, or says what is missing and what to do;
    StorageUnavailable when S3 does not answer.
    """
    cache = cache.resolve()
    origin = parse_source(source, task)
    if isinstance(origin, Digits):
        return digits.reference()
    place, fingerprint = locate(origin, source, cache, s3)
    layout = read_layout(place, task)
    # Before the files are read: a change during the check must not go unnoticed.
    before = None if fingerprint else stat_digest(layout)
    validate(layout, source)
    reference = DatasetReference(
        source=source,
        task=task,
        fingerprint=fingerprint or content_fingerprint(layout, source),
        train_images=len(layout.splits["train"]),
        val_images=len(layout.splits["val"]),
        classes=layout.names,
        size=_size(layout),
        stat_digest=before,
    )
    log.info("Dataset %s is good: %s", source, reference.model_dump_json(exclude={"classes"}))
    return reference


def _size(layout: Layout) -> int:
    samples = [sample for split in layout.splits.values() for sample in split]
    labels = {sample.label for sample in samples if sample.label and sample.label.is_file()}
    return sum(path.stat().st_size for path in {sample.image for sample in samples} | labels)
