"""What this package needs from an object store; `s3.py` provides it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


_CONTENT_HASH = re.compile(r"[0-9a-f]{32}(-[0-9]+)?")
"""The form of S3's own ETags. Each is the MD5 of the content or of the MD5s of its parts or, for an encrypted
object, random. So equal ETags mean equal contents. Other servers may use version numbers as ETags, which may
be equal although the contents differ."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object as it was when S3 described it.

    This is not a ListedObject of include/s3, because most of these objects come from the recorded listing of
    a checked dataset. Such a listing has no modification times, and ETags without quotes.
    """

    bucket: str
    """Name of the bucket."""
    key: str
    """The object's full key."""
    size: int
    """In bytes."""
    etag: str
    """Without quotes."""

    @property
    def uri(self) -> str:
        """The object's s3:// address."""
        return f"s3://{self.bucket}/{self.key}"

    @property
    def content(self) -> tuple[str, ...]:
        """Values that identify the content, known without downloading it.

        These are the ETag and the size, and the URI if the ETag is not a hash.
        """
        known = (self.etag, str(self.size))
        return known if _CONTENT_HASH.fullmatch(self.etag) else (*known, self.uri)


Page = list[StoredObject | str]
"""Part of a listing: objects directly under a prefix, and the prefixes of its folders."""


class ObjectReader(Protocol):
    """Reads objects.

    `stat` raises DatasetError for an object that does not exist; listing a prefix without objects yields
    nothing. On any other failure, every method raises a StoreError.
    """

    def stat(self, bucket: str, key: str) -> StoredObject:
        """Return one object's size and ETag."""

    def list(self, bucket: str, prefix: str) -> Iterator[StoredObject]:
        """List the objects whose keys start with `prefix`, ordered by key."""

    def list_level(self, bucket: str, prefix: str, after: str = "") -> Iterator[Page]:
        """List the objects and prefixes directly under `prefix` whose keys sort after `after`."""

    def read(self, stored: StoredObject, start: int, stop: int) -> Iterator[bytes]:
        """Read bytes `start` to `stop` - 1. Raises DatasetChanged if the object was replaced or deleted."""
