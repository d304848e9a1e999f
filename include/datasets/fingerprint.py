"""Fingerprints of content: SHA-256 over a canonical text.

For S3, the text consists mainly of sizes, ETags and, for a prefix, names. S3 returns these without a
download, so the cache can be searched before anything is fetched. For a local path, the text consists mainly
of the names within each split and the SHA-256 of every image and label. So each file has to be read, but the
dataset may be anywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING

from include.datasets.disk import is_file, is_passing
from include.datasets.errors import DatasetChanged, DatasetError
from include.datasets.parallel import map_in_order
from include.datasets.progress import ProgressLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from include.datasets.layouts.samples import Layout, Sample
    from include.datasets.rules import Split
    from include.datasets.sources import S3File
    from include.datasets.storage import StoredObject


def compute_file_fingerprint(origin: S3File, stored: StoredObject) -> str:
    """Return the fingerprint of a file in S3, not including the images that an .ndjson file names."""
    return _LineDigest("s3-zip" if origin.is_zip else "s3-export", " ".join(stored.content)).fingerprint()


def compute_tree_fingerprint(objects: Iterable[tuple[str, StoredObject]], yaml: str | None) -> str:
    """Return a fingerprint of the objects' relative names and contents, and of the name of the data YAML."""
    digest = TreeDigest(yaml)
    for name, stored in objects:
        digest.add(name, stored)
    return digest.fingerprint()


class _LineDigest:
    """Computes a SHA-256 of lines of text."""

    def __init__(self, *lines: str) -> None:
        self._digest = hashlib.sha256()
        self._write(*lines)

    def fingerprint(self) -> str:
        """Return the fingerprint of everything that was added."""
        return self._digest.hexdigest()

    def _write(self, *lines: str) -> None:
        for line in lines:
            self._digest.update(line.encode("utf-8", "surrogateescape") + b"\n")


class TreeDigest(_LineDigest):
    """Counts the objects of a dataset, which are added in order, and computes their fingerprint."""

    def __init__(self, yaml: str | None) -> None:
        super().__init__("s3-tree", json.dumps(yaml))
        self.count = 0

    def add(self, name: str, stored: StoredObject) -> None:
        """Add an object with its name relative to the prefix."""
        self.count += 1
        etag, _, *address = stored.content
        self._write(json.dumps([name, stored.size, etag, *address]))


class ContentDigest(_LineDigest):
    """Computes the digest of a layout from descriptions of its files, which are added in order."""

    def __init__(self, layout: Layout) -> None:
        super().__init__("files", json.dumps([layout.names, layout.extras], sort_keys=True))

    def begin_split(self, split: Split) -> None:
        """Begin with the next split of the layout."""
        self._write(split)

    def add(self, name: str, image: str, label: str | None) -> None:
        """Add an image and its labels, each described by its SHA-256, or by its size and times."""
        self._write(json.dumps([name, image, label]))


def compute_content_fingerprint(layout: Layout, source: str) -> str:
    """Read all files of a layout, and return a fingerprint of their contents.

    Raises DatasetError, or an OSError if a retry may succeed.
    """
    return _digest_files(layout, _hash_file, f"Reading {source}")


def compute_stat_digest(layout: Layout) -> str:
    """Return a digest of the sizes and times of a layout's files, without reading the files.

    The ctime is included because programs can set the mtime back, but not the ctime. Raises OSErrors after
    which a retry may succeed.
    """
    return _digest_files(layout, _describe_stat, "Looking at files")


def require_expected(fingerprint: str, expected: str | None, source: str) -> None:
    """Raise DatasetChanged if `fingerprint` is not the expected one. If `expected` is None, accept any."""
    if expected is not None and fingerprint != expected:
        raise DatasetChanged(
            f"{source} has changed since check_dataset checked it (fingerprint then {expected[:12]}, now "
            f"{fingerprint[:12]}). Restore it, or start over with the current content: clear check_dataset, "
            "or, if the job has a durable state, trigger it with fresh=true"
        )


def _digest_files(layout: Layout, describe_file: Callable[[str], str], doing: str) -> str:
    progress = ProgressLog(doing, sum(map(len, layout.splits.values())), "images")

    def describe(sample: Sample) -> tuple[str, str, str | None]:
        label = describe_file(sample.label) if sample.label and is_file(sample.label) else None
        described = sample.name, describe_file(sample.image), label
        progress.advance()
        return described

    digest = ContentDigest(layout)
    for split, samples in layout.splits.items():
        digest.begin_split(split)
        for described in map_in_order(describe, samples):
            digest.add(*described)
    return digest.fingerprint()


def _hash_file(path: str) -> str:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        if is_passing(error):
            raise
        raise DatasetError(f"{path} cannot be read: {error}") from error


def _describe_stat(path: str) -> str:
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError as error:
        if is_passing(error):
            raise
        return "unreadable"  # the check of the images reports this file by name
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"
