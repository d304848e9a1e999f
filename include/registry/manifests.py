"""Manifests in S3: the images and labels of a registered dataset, one image per line, sorted by name.

    s3://{bucket}/datasets/manifests/{fingerprint}-{task}.jsonl.gz

Each line is the JSON that the check writes (include/datasets). The check writes the lines in the order in
which it finds the files. This module sorts the lines, so that two manifests can be compared line by line,
without holding either in memory.
"""

from __future__ import annotations

import gzip
import heapq
import json
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from include.datasets.rules import SPLITS
from include.limits import MANIFEST_LINE
from include.plain_text import escape_controls
from include.s3.download import download
from include.s3.errors import CorruptObject, ObjectNotFound
from include.s3.layout import build_manifest_key

if TYPE_CHECKING:
    from include.datasets.rules import Split
    from include.s3.bucket import Bucket
    from include.ultralytics_tasks import Task

_SORTED_AT_ONCE = 32 * 1024**2
"""Bytes that are sorted in memory at a time. The sorted pieces are written to files, and then merged."""

_DAMAGE = (gzip.BadGzipFile, EOFError, zlib.error, ValueError, KeyError, TypeError)


class ManifestEntry(NamedTuple):
    """One image of a dataset."""

    key: str
    """The image's name as JSON; manifests are sorted by it."""
    split: Split
    """The split of the image."""
    image: str
    """SHA-256 of the image."""
    label: str | None
    """SHA-256 of the image's label file; None if there is no label file."""

    @property
    def name(self) -> str:
        """The image's path within the split as printable text: a file's name need not be valid Unicode."""
        return escape_controls(json.loads(self.key))


class ManifestMissing(ObjectNotFound):
    """The content has no manifest for this task, for example because an older release checked it."""


def store_manifest(bucket: Bucket, manifest: Path, fingerprint: str, task: Task) -> None:
    """Sort the manifest that a check has written, and store it. Raises StoreErrors."""
    with tempfile.TemporaryFile() as file:
        with gzip.GzipFile(fileobj=file, mode="wb", mtime=0) as packed, _sorted_lines(manifest) as lines:
            packed.writelines(lines)
        file.seek(0)
        bucket.put(build_manifest_key(fingerprint, task), file, content_type="application/gzip")


@contextmanager
def open_manifest(bucket: Bucket, fingerprint: str, task: Task) -> Iterator[Iterator[ManifestEntry]]:
    """Fetch a manifest; yield an iterator that reads its entries in order, one by one.

    Raises ManifestMissing and other StoreErrors; the iterator raises CorruptObject.
    """
    location = bucket.at(build_manifest_key(fingerprint, task))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "manifest"
        try:
            with download(bucket.client, location, file):
                pass
        except ObjectNotFound as error:
            raise ManifestMissing(location.uri) from error
        yield _read_stored(file, location.uri)


def _read_stored(file: Path, uri: str) -> Iterator[ManifestEntry]:
    before = ("", "")
    try:
        for line in _read_lines(file):
            entry = _parse(line)
            if (entry.key, entry.split) < before:
                raise ValueError(f"{entry.key} is not in order")
            before = entry.key, entry.split
            yield entry
    except _DAMAGE as error:
        raise CorruptObject(f"{uri} is damaged: {error}") from error


def _parse(line: bytes) -> ManifestEntry:
    values = json.loads(line)
    name, split, image, label = (values[field] for field in ("name", "split", "image", "label"))
    if not all(isinstance(value, str) for value in (name, split, image, label or "")):
        raise TypeError("a name, a split or a hash is not a string")
    if split not in SPLITS:
        raise ValueError(f"{split!r:.20} is not a split")
    return ManifestEntry(json.dumps(name), split, image, label)


def _read_lines(file: Path) -> Iterator[bytes]:
    with gzip.open(file) as unpacked:
        while line := unpacked.readline(MANIFEST_LINE + 1):
            if len(line) > MANIFEST_LINE:
                raise ValueError(f"a line is longer than {MANIFEST_LINE} bytes")
            yield line


@contextmanager
def _sorted_lines(manifest: Path) -> Iterator[Iterator[bytes]]:
    """Yield the lines in order. The sorted pieces are in temporary files, to save memory."""
    with ExitStack() as files:
        runs: list[IO[bytes]] = []
        for run in _cut(manifest):
            file = files.enter_context(tempfile.TemporaryFile())
            file.writelines(sorted(run))
            file.seek(0)
            runs.append(file)
        # A name as JSON contains no tab.
        yield (line.split(b"\t", 2)[2] for line in heapq.merge(*runs))


def _cut(manifest: Path) -> Iterator[Iterable[bytes]]:
    """Cut the manifest into pieces that fit into memory; each line starts with its sort key."""
    run: list[bytes] = []
    size = 0
    for line in _read_lines(manifest):
        entry = _parse(line)
        run.append(f"{entry.key}\t{entry.split}\t".encode() + line)
        size += len(run[-1])
        if size >= _SORTED_AT_ONCE:
            yield run
            run, size = [], 0
    yield run
