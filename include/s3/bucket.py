"""Requests to one bucket; every method that sends a request raises StoreErrors.

`reading`, `download` and `upload` handle objects at any URI, in any bucket.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from include.blocks import read_blocks
from include.s3.errors import ConditionFailed, ObjectNotFound, ObjectTooLarge, translate_s3_errors
from include.s3.listing import list_pages
from include.s3.local_file import in_base64
from include.s3.location import S3Location
from include.s3.reading import head_object

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef

    from include.s3.listing import ListedObject
    from include.s3.upload import Condition

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class ObjectContent:
    """An object that was read."""

    content: bytes | None
    """The object's bytes; None if the reader already has them."""
    etag: str
    """The ETag with its quotes, as S3 returns it."""


@dataclass(frozen=True)
class Bucket:
    """A bucket on an S3 server; several threads may share an instance."""

    client: S3Client
    """Sends the requests; it determines the server and the access keys."""
    name: str
    """Name of the bucket."""

    @property
    def endpoint(self) -> str:
        """The address of the server, for messages."""
        return self.client.meta.endpoint_url

    def at(self, key: str) -> S3Location:
        """Return the address of the object with that key."""
        return S3Location(self.name, key)

    def find_key(self, uri: str) -> str | None:
        """Return the key in the URI of an object or prefix in this bucket; None for any other address."""
        own = self.at("").uri
        return uri.removeprefix(own) if uri.startswith(own) else None

    def head(self, key: str) -> HeadObjectOutputTypeDef | None:
        """Return S3's response to HEAD; None if the object does not exist."""
        return head_object(self.client, self.at(key))

    def read(self, key: str, largest: int, parse: Callable[[bytes], T]) -> T | None:
        """Return the result of `parse` for the object's bytes.

        Returns None if the object does not exist, has more than `largest` bytes, or fails pydantic's
        validation.
        """
        try:
            content, _ = self.read_with_etag(key, largest)
            return parse(content)
        except (ObjectNotFound, ObjectTooLarge, ValidationError):
            return None

    def read_with_etag(self, key: str, largest: int) -> tuple[bytes, str]:
        """Return the object's bytes and its ETag, which come from the same response.

        Raises ObjectNotFound, and ObjectTooLarge if the object has more than `largest` bytes.
        """
        with translate_s3_errors(self.client, self.at(key)):
            answer = self.client.get_object(Bucket=self.name, Key=key)
            if answer["ContentLength"] > largest:
                raise ObjectTooLarge(self.at(key).uri, answer["ContentLength"], largest)
            return answer["Body"].read(), answer["ETag"]

    def read_unless_known(self, key: str, etag: str, known: str) -> ObjectContent:
        """Return the object with that ETag, but without its bytes if `known` contains the ETag.

        Raises StoreUnavailable if the object was replaced.
        """
        if etag in known:
            return ObjectContent(None, etag)
        with translate_s3_errors(self.client, self.at(key)):
            answer = self.client.get_object(Bucket=self.name, Key=key, IfMatch=etag)
            return ObjectContent(answer["Body"].read(), etag)

    def put(
        self,
        key: str,
        content: bytes | IO[bytes],
        *,
        content_type: str = "binary/octet-stream",  # S3's own default
        metadata: Mapping[str, str] | None = None,
        condition: Condition | None = None,
    ) -> None:
        """Store a small object if the condition holds; without a condition, replace any existing object."""
        with translate_s3_errors(self.client, self.at(key)):
            self.client.put_object(
                Bucket=self.name,
                Key=key,
                Body=content,
                ChecksumSHA256=compute_checksum(content),
                ContentType=content_type,
                Metadata=metadata or {},
                **(condition or {}),
            )

    def delete(self, key: str) -> None:
        """Delete the object, if it exists."""
        with translate_s3_errors(self.client, self.at(key)):
            self.client.delete_object(Bucket=self.name, Key=key)

    def delete_listed(self, item: ListedObject) -> bool:
        """Delete a listed object. Returns False if it has been replaced or removed since it was listed."""
        try:
            with translate_s3_errors(self.client, item.location):
                self.client.delete_object(Bucket=self.name, Key=item.location.key, IfMatch=item.etag)
        except (ConditionFailed, ObjectNotFound):
            log.info("%s has changed since it was listed; not deleted.", item.location.uri)
            return False
        return True

    def delete_below(self, prefix: str, chosen: Callable[[str], bool] = lambda key: True) -> tuple[int, int]:
        """Delete the objects below `prefix` whose keys `chosen` accepts, even if they were just replaced.

        Returns their number and total size. The caller must ensure that no process writes below `prefix`.
        """
        objects = size = 0
        for page in self.list_pages(prefix):
            doomed = [item for item in page if chosen(item.location.key)]
            self._delete_page(doomed)
            objects, size = objects + len(doomed), size + sum(item.size for item in doomed)
        return objects, size

    def _delete_page(self, items: Sequence[ListedObject]) -> None:
        from botocore.exceptions import ClientError

        if not items:
            return
        with translate_s3_errors(self.client, items[0].location):
            answer = self.client.delete_objects(
                Bucket=self.name,
                Delete={"Objects": [{"Key": item.location.key} for item in items], "Quiet": True},
            )
        for refused in answer.get("Errors", ()):
            location = self.at(refused.get("Key", ""))
            with suppress(ObjectNotFound), translate_s3_errors(self.client, location):
                raise ClientError(
                    {"Error": {"Code": refused.get("Code", ""), "Message": refused.get("Message", "")}},
                    "DeleteObjects",
                )

    def list_pages(self, prefix: str) -> Iterator[list[ListedObject]]:
        """List the objects below `prefix`, page by page, in the order of their keys."""
        return list_pages(self.client, self.at(prefix))

    def list_objects(self, prefix: str) -> Iterator[ListedObject]:
        """List the objects below `prefix`, one by one, in the order of their keys."""
        return (item for page in self.list_pages(prefix) for item in page)


def compute_checksum(content: bytes | IO[bytes]) -> str:
    """Return the SHA-256 of some bytes, or of the unread rest of a file, in Base64, as S3 expects it."""
    if isinstance(content, bytes):
        return in_base64(hashlib.sha256(content).digest())
    start, digest = content.tell(), hashlib.sha256()
    for block in read_blocks(content):
        digest.update(block)
    content.seek(start)
    return in_base64(digest.digest())
