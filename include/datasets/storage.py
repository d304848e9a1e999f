"""What this package needs of an object store. `include.datasets.s3` is the implementation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class StoredObject:
    """One object as it was when it was listed. size is in bytes; etag is without quotes."""

    bucket: str
    key: str
    size: int
    etag: str

    @property
    def uri(self) -> str:
        """Its s3:// address."""
        return f"s3://{self.bucket}/{self.key}"


class ObjectReader(Protocol):
    """Reads objects.

    Every method raises DatasetError for what does not exist or is not allowed, and StorageUnavailable where
    the store does not answer.
    """

    def stat(self, bucket: str, key: str) -> StoredObject:
        """Look at one object."""

    def list(self, bucket: str, prefix: str) -> Iterator[StoredObject]:
        """List the objects whose keys begin with `prefix`, in the order of their keys."""

    def read(self, stored: StoredObject, start: int, stop: int) -> Iterator[bytes]:
        """Read bytes `start` to `stop` - 1; raises DatasetChanged if it is no longer the object listed."""
