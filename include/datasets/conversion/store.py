"""Converted datasets in S3, each under the fingerprint of its content.

The fingerprint is computed from the MD5s of the files. The MD5s are also the ETags of the objects, unless the
bucket encrypts with SSE-KMS. An object is written only if it is missing or its recorded SHA-256 is wrong. So
several workers may store the same dataset concurrently, and a retry continues where a killed worker stopped.
The record of the conversion is written last.
"""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from include.blocks import read_blocks
from include.datasets.caching.listing import Listing, S3Listings
from include.datasets.errors import DatasetError
from include.datasets.fingerprint import compute_tree_fingerprint
from include.datasets.parallel import map_in_order
from include.datasets.progress import ProgressLog
from include.datasets.sources import S3Tree
from include.datasets.storage import StoredObject
from include.limits import REPORT_BYTES
from include.s3.errors import ConditionFailed, StoreBusy
from include.s3.layout import build_conversion_key, build_converted_prefix
from include.s3.local_file import LocalFile, TransferLimits
from include.s3.upload import build_unchanged_condition, put

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from include.s3.bucket import Bucket

_CONNECTIONS = 8
_TRIES = 5
_HASH = r"^[0-9a-f]{64}$"
_SHA256 = "sha256"
_PAGE = 1000


class ConvertedDataset(BaseModel):
    """A converted dataset in S3."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prefix: str = Field(pattern=_HASH)
    """Name of the dataset's prefix."""
    fingerprint: str = Field(pattern=_HASH)
    """Fingerprint of the objects below the prefix: the same as `prefix`, unless the bucket's ETags are not
    MD5s."""
    yaml: str | None
    """Name of the dataset's data YAML; None for a dataset of class folders."""
    notes: dict[str, int] = Field(default_factory=dict)
    """For each note, how many items were skipped or replaced."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a converted dataset."""

    name: str
    """Relative to the dataset."""
    path: Path
    """Path of the file on this machine."""
    size: int
    """In bytes."""
    md5: str
    """Hexadecimal MD5 of the file; the ETag of its object, unless the bucket encrypts with SSE-KMS."""
    sha256: str
    """Hexadecimal SHA-256 of the file."""
    etag: str | None
    """ETag of the object in S3, without quotes; None until the file is stored."""


class Inventory:
    """The files of one converted dataset, kept on disk because there may be millions.

    Their order is that of their names, which is also the order of keys in S3.
    """

    def __init__(self, file: Path) -> None:
        file.unlink(missing_ok=True)
        self._database = sqlite3.connect(file, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(
            "CREATE TABLE files (name TEXT PRIMARY KEY, path TEXT, size INTEGER, md5 TEXT, sha256 TEXT, "
            "etag TEXT) WITHOUT ROWID"
        )

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def add_all(self, files: Iterable[tuple[str, Path]]) -> None:
        """Read the files, given as (name, path), and add them."""
        self._database.execute("BEGIN")
        self._database.executemany(
            "INSERT INTO files VALUES (?, ?, ?, ?, ?, NULL)", map_in_order(_hash, files)
        )
        self._database.execute("COMMIT")

    def set_etag(self, name: str, etag: str) -> None:
        """Record that a file is stored, and the ETag of its object."""
        self._database.execute("UPDATE files SET etag = ? WHERE name = ?", (etag, name))

    def recognize(self, name: str, etag: str) -> None:
        """Record the file as stored if `etag`, the ETag of the object with that name, is the file's MD5."""
        self._database.execute("UPDATE files SET etag = md5 WHERE name = ? AND md5 = ?", (name, etag))

    def __iter__(self) -> Iterator[Entry]:
        last = ""
        while page := self._database.execute(
            "SELECT * FROM files WHERE name > ? ORDER BY name LIMIT ?", (last, _PAGE)
        ).fetchall():
            for name, path, *rest in page:
                yield Entry(name, Path(path), *rest)
            last = page[-1][0]


class ConvertedDatasets:
    """The converted datasets in one bucket. Methods that send requests raise StoreErrors."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket, self._listings = bucket, S3Listings(bucket)

    def build_uri(self, converted: ConvertedDataset) -> str:
        """Return the URI of the converted dataset, as a value for the parameter `dataset`."""
        return f"s3://{self._bucket.name}/{build_converted_prefix(converted.prefix)}{converted.yaml or ''}"

    def find(self, key: str) -> ConvertedDataset | None:
        """Return the converted dataset recorded for `key`; None unless all its files are in S3, unchanged."""
        converted = self._bucket.read(
            build_conversion_key(key), REPORT_BYTES, ConvertedDataset.model_validate_json
        )
        if converted is None:
            return None
        origin = self._build_origin(converted.prefix, converted.yaml)
        is_listed = self._listings.load(converted.fingerprint, origin) is not None
        return converted if is_listed and self.is_stored(converted) else None

    def is_stored(self, converted: ConvertedDataset) -> bool:
        """Return whether the prefix contains exactly the dataset's files, unchanged."""
        prefix = build_converted_prefix(converted.prefix)
        items = ((item.location.key.removeprefix(prefix), item) for item in self._bucket.list_objects(prefix))
        found = ((name, StoredObject("", "", item.size, item.etag.strip('"'))) for name, item in items)
        return compute_tree_fingerprint(found, converted.yaml) == converted.fingerprint

    def record(self, key: str, converted: ConvertedDataset) -> None:
        """Record `converted` as the result of converting the content that `key` identifies."""
        content = converted.model_dump_json().encode()
        self._bucket.put(build_conversion_key(key), content, content_type="application/json")

    def store(self, inventory: Inventory, yaml: str | None, notes: dict[str, int]) -> ConvertedDataset:
        """Store all files that are not in S3 yet, and the listing of the dataset.

        Raises StoreErrors, and DatasetError if a file has changed since `inventory` was built.
        """
        prefix = compute_tree_fingerprint(
            ((entry.name, StoredObject("", "", entry.size, entry.md5)) for entry in inventory), yaml
        )
        folder = build_converted_prefix(prefix)
        for item in self._bucket.list_objects(folder):
            inventory.recognize(item.location.key.removeprefix(folder), item.etag.strip('"'))
        missing = sum(entry.etag is None for entry in inventory)
        progress = ProgressLog("Storing the converted dataset", missing, "files")
        waiting = (entry for entry in inventory if entry.etag is None)
        for name, etag in map_in_order(lambda entry: self._store(entry, prefix), waiting, _CONNECTIONS):
            inventory.set_etag(name, etag)
            progress.advance()
        listing = Listing.write(self._build_origin(prefix, yaml), self._list_stored(inventory, prefix))
        self._listings.save(listing)
        return ConvertedDataset(prefix=prefix, fingerprint=listing.fingerprint, yaml=yaml, notes=notes)

    def _build_origin(self, prefix: str, yaml: str | None) -> S3Tree:
        return S3Tree(self._bucket.name, build_converted_prefix(prefix), yaml)

    def _list_stored(self, inventory: Inventory, prefix: str) -> Iterator[tuple[str, StoredObject]]:
        for entry in inventory:
            key = build_converted_prefix(prefix) + entry.name
            yield entry.name, StoredObject(self._bucket.name, key, entry.size, entry.etag or "")

    def _store(self, entry: Entry, prefix: str) -> tuple[str, str]:
        """Store one file; return its name and the ETag of its object.

        An existing object is replaced if its recorded SHA-256 is missing or different.
        """
        location = self._bucket.at(build_converted_prefix(prefix) + entry.name)
        file = LocalFile.read(entry.path, TransferLimits())
        if file.sha256 != entry.sha256:
            raise DatasetError(f"{entry.path} changed during the conversion; try again")
        condition = build_unchanged_condition(None)
        for _ in range(_TRIES):
            with suppress(ConditionFailed):
                etag = put(self._bucket.client, file, location, {_SHA256: file.sha256}, condition)
                return entry.name, etag.strip('"')
            head = self._bucket.head(location.key)
            if head is not None and head["Metadata"].get(_SHA256) == file.sha256:
                return entry.name, head["ETag"].strip('"')
            condition = build_unchanged_condition(head and head["ETag"])
        raise StoreBusy(f"{location.uri} is still being overwritten by other processes; try again later")


def _hash(file: tuple[str, Path]) -> tuple[str, str, int, str, str]:
    name, path = file
    size, md5, sha256 = 0, hashlib.md5(usedforsecurity=False), hashlib.sha256()
    try:
        with path.open("rb") as opened:
            for block in read_blocks(opened):
                size += len(block)
                md5.update(block)
                sha256.update(block)
    except (FileNotFoundError, PermissionError) as error:
        raise DatasetError(f"{name} cannot be read: {error}; allow the worker to read it") from error
    return name, str(path), size, md5.hexdigest(), sha256.hexdigest()
