"""What this package needs from an object store; `s3.py` and `caching/listings.py` implement it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.datasets.caching.listing import Listing
    from include.datasets.sources import S3Tree


_CONTENT_HASH = re.compile(r"[0-9a-f]{32}(-[0-9]+)?")
"""The form of S3's ETags: the MD5 of the content, or of the MD5s of its parts; ETags of encrypted objects are
random. A server whose ETags count versions instead may give equal ETags to different objects."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object as it was when S3 described it. size is in bytes; etag is without quotes."""

    bucket: str
    key: str
    size: int
    etag: str

    @property
    def uri(self) -> str:
        """Its s3:// address."""
        return f"s3://{self.bucket}/{self.key}"

    @property
    def content(self) -> tuple[str, ...]:
        """What identifies its content without a download: ETag and size, and the address if they do not."""
        known = (self.etag, str(self.size))
        return known if _CONTENT_HASH.fullmatch(self.etag) else (*known, self.uri)


Page = list[StoredObject | str]
"""Some of what is directly under a prefix: objects, and the prefixes of deeper ones up to the next slash."""


class ObjectReader(Protocol):
    """Reads objects.

    `stat` raises DatasetError for an object that does not exist; nothing is listed where there are no
    objects. Every method raises StoreErrors for other failures.
    """

    def stat(self, bucket: str, key: str) -> StoredObject:
        """Return one object's size and ETag."""

    def list(self, bucket: str, prefix: str) -> Iterator[StoredObject]:
        """List the objects whose keys start with `prefix`, ordered by key."""

    def list_level(self, bucket: str, prefix: str, after: str = "") -> Iterator[Page]:
        """List what is directly under `prefix` and has a key after `after`."""

    def read(self, stored: StoredObject, start: int, stop: int) -> Iterator[bytes]:
        """Read bytes `start` to `stop` - 1. Raises DatasetChanged if the object was replaced or deleted."""


class Listings(Protocol):
    """Records which objects were listed for checks of S3 prefixes, by fingerprint. Raises StoreErrors."""

    def save(self, listing: Listing) -> None:
        """Save a listing under its fingerprint."""

    def load(self, fingerprint: str, origin: S3Tree) -> Listing | None:
        """Return the objects that were checked; None if no intact listing is saved."""
