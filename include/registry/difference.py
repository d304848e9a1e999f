"""Compares the files, and the classes, of two versions of a dataset."""

from __future__ import annotations

import heapq
from itertools import groupby, repeat, zip_longest
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from include.datasets.reference import ClassCount
from include.datasets.rules import Split
from include.registry.manifests import open_manifest
from include.s3.layout import build_difference_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from include.registry.manifests import ManifestEntry
    from include.registry.version import DatasetSummary
    from include.s3.bucket import Bucket

EXAMPLES = 50
"""Maximum number of images that are named for each kind of change."""

_LISTED_CLASSES = 500
"""Maximum number of classes that are named; most detection datasets have fewer."""

_LARGEST = 4 * 1024**2
"""Maximum size of a stored difference in bytes. EXAMPLES names of a kilobyte for each of the five kinds of
change need only 250 kB."""


class ChangedImage(BaseModel):
    """One image that differs."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str
    """The image's path within the split."""
    split: Split
    """The image's split."""
    moved_from: Split | None = None
    """The split from which the image was moved; null if it was not moved."""


class Changes(BaseModel):
    """All images with the same kind of change."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    count: int = 0
    """Number of images."""
    examples: list[ChangedImage] = Field(default_factory=list, max_length=EXAMPLES)
    """The first of these images."""

    def add(self, entry: ManifestEntry, moved_from: Split | None = None) -> None:
        """Count the image."""
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(ChangedImage(name=entry.name, split=entry.split, moved_from=moved_from))


class FileDifference(BaseModel):
    """The changes between two versions.

    An image is identified by its path within its split. An image whose content changed is in `changed`; if
    only its label changed, it is in `labels_changed`. An image with the same content in a different split is
    in `moved`, and also in `labels_changed` if its label changed.
    """

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    added: Changes = Field(default_factory=Changes)
    """Images that are new."""
    removed: Changes = Field(default_factory=Changes)
    """Images that are gone."""
    changed: Changes = Field(default_factory=Changes)
    """Images whose content changed."""
    labels_changed: Changes = Field(default_factory=Changes)
    """Images with the same content but a different label."""
    moved: Changes = Field(default_factory=Changes)
    """Images that are now in a different split."""


class ClassChange(BaseModel):
    """A class whose counts differ."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str
    """Name of the class."""
    before: ClassCount | None
    """Counts in the earlier version; null if the class is new."""
    after: ClassCount | None
    """Counts in the later version; null if the class is gone."""


class ClassDifference(BaseModel):
    """The difference between two class tables. Classes are identified by their names."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    added: int
    """Number of classes that are new."""
    removed: int
    """Number of classes that are gone."""
    renumbered: bool
    """Whether any class has different ids in the two versions, which changes the meaning of labels."""
    changes: list[ClassChange] = Field(max_length=_LISTED_CLASSES)
    """The first classes that are new, are gone, or have different counts."""


def load_difference(bucket: Bucket, base: DatasetSummary, version: DatasetSummary) -> FileDifference | None:
    """Return the stored difference; None if none is stored. Raises StoreErrors."""
    return bucket.read(_build_key(base, version), _LARGEST, FileDifference.model_validate_json)


def store_difference(bucket: Bucket, base: DatasetSummary, version: DatasetSummary) -> None:
    """Compare the manifests of both versions and store the result. Raises the errors of `find_difference`."""
    found = find_difference(bucket, base, version)
    bucket.put(_build_key(base, version), found.model_dump_json().encode(), content_type="application/json")


def find_difference(bucket: Bucket, base: DatasetSummary, version: DatasetSummary) -> FileDifference:
    """Compare the manifests of both versions.

    The memory used does not depend on the number of images. Raises ManifestMissing and other StoreErrors.
    """
    with (
        open_manifest(bucket, base.fingerprint, base.task) as before,
        open_manifest(bucket, version.fingerprint, version.task) as after,
    ):
        return compare(before, after)


def compare(before: Iterable[ManifestEntry], after: Iterable[ManifestEntry]) -> FileDifference:
    """Compare two manifests, whose entries must be in order."""
    found = FileDifference()
    for old, new in _pair_by_name(before, after):
        removed: list[ManifestEntry] = []
        added: list[ManifestEntry] = []
        for old_entry, new_entry in _pair_by_split(old, new):
            if new_entry is None:
                removed += [old_entry] if old_entry else []
            elif old_entry is None:
                added.append(new_entry)
            elif old_entry.image != new_entry.image:
                found.changed.add(new_entry)
            elif old_entry.label != new_entry.label:
                found.labels_changed.add(new_entry)
        _record_moves(removed, added, found)
    return found


def compare_classes(
    before: Sequence[ClassCount] | None, after: Sequence[ClassCount] | None
) -> ClassDifference | None:
    """Compare two class tables; return None if the classes of either version were not counted."""
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
        changes=changes[:_LISTED_CLASSES],
    )


def _record_moves(removed: list[ManifestEntry], added: list[ManifestEntry], found: FileDifference) -> None:
    """Record the images of one name that were added to a split, removed from one, or moved between splits."""
    for entry in added:
        origin = next((each for each in removed if each.image == entry.image), None)
        if origin is None:
            found.added.add(entry)
            continue
        removed.remove(origin)
        found.moved.add(entry, origin.split)
        if origin.label != entry.label:
            found.labels_changed.add(entry)
    for entry in removed:
        found.removed.add(entry)


def _pair_by_name(
    before: Iterable[ManifestEntry], after: Iterable[ManifestEntry]
) -> Iterator[tuple[list[ManifestEntry], list[ManifestEntry]]]:
    """Yield, for each name, the images with that name in `before` and those in `after`."""

    def name_of(pair: tuple[ManifestEntry, int]) -> str:
        return pair[0].key

    both = heapq.merge(zip(before, repeat(0)), zip(after, repeat(1)), key=name_of)
    for _, named in groupby(both, name_of):
        found: tuple[list[ManifestEntry], list[ManifestEntry]] = [], []
        for entry, manifest in named:
            found[manifest].append(entry)
        yield found


def _pair_by_split(
    old: list[ManifestEntry], new: list[ManifestEntry]
) -> Iterator[tuple[ManifestEntry | None, ManifestEntry | None]]:
    """Yield pairs of an old and a new image in the same split; None if one version lacks the image."""
    for split in dict.fromkeys(entry.split for entry in (*old, *new)):
        yield from zip_longest(
            (entry for entry in old if entry.split == split),
            (entry for entry in new if entry.split == split),
        )


def _build_key(base: DatasetSummary, version: DatasetSummary) -> str:
    return build_difference_key(version.fingerprint, version.task, base.fingerprint, base.task)
