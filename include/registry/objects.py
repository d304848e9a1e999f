"""The objects in the checkpoint bucket that a dataset version uses, and the locks on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from include.database import Statements
from include.datasets.uploads.store import find_upload_id
from include.s3.layout import ConvertedKey

if TYPE_CHECKING:
    from psycopg import Connection

    from include.datasets.reference import DatasetReference
    from include.registry.version import DatasetVersion
    from include.s3.bucket import Bucket


@dataclass(frozen=True)
class DatasetObjects:
    """The names under which a version's objects are stored in the bucket."""

    fingerprint: str
    """Fingerprint of the content; objects derived from the content are stored under this name."""
    copy: str | None
    """Name of the converted copy's prefix: the fingerprint, if the server's ETags are MD5s. None if the data
    were not converted."""
    upload_id: str | None
    """The upload that contains the version's data; None if they are not from an upload in this bucket."""

    @classmethod
    def of(cls, bucket: Bucket, dataset: DatasetVersion | DatasetReference) -> Self:
        """Return the names used by a version, or by a dataset that is about to become one."""
        copy = ConvertedKey.parse(bucket.find_key(dataset.source) or "")
        uploads = find_upload_id(bucket, dataset.origin), find_upload_id(bucket, dataset.source)
        return cls(dataset.fingerprint, copy.fingerprint if copy else None, uploads[0] or uploads[1])

    def lock(self, connection: Connection[Any]) -> None:
        """Keep other processes from deleting or registering these objects until the transaction ends."""
        names = [name for name in (self.fingerprint, self.copy, self.upload_id) if name]
        lock_objects(connection, names)


def lock_objects(connection: Connection[Any], names: list[str]) -> None:
    """Lock objects by fingerprint, copy prefix or upload id, until the caller's transaction ends."""
    Statements(connection).fetch_all("lock_dataset_objects", names=names)
