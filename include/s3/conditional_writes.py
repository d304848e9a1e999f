"""Probes whether an S3 server honours the conditions of writes (many do not) and verifies checksums.

A probe cannot show whether a server checks the condition and writes in one atomic step; docs/deployment.md
lists the servers that do.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from include.s3.bucket import compute_checksum
from include.s3.errors import (
    BytesRefused,
    ConditionFailed,
    ConditionsNotHonoured,
    RequestNotSupported,
    StoreAccessDenied,
    translate_s3_errors,
)
from include.s3.layout import PROBE_KEY
from include.s3.multipart import MultipartUpload

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.s3.bucket import Bucket
    from include.s3.upload import Condition

log = logging.getLogger(__name__)

_CONTENT = b"Writes to this object test whether the server honours conditional writes.\n"
_NOBODYS_ETAG = f'"{"0" * 32}"'


class Support(StrEnum):
    """How a server treats a write whose condition does not hold; only HONOURED protects the object."""

    HONOURED = "refuses it"
    IGNORED = "performs it anyway"
    UNSUPPORTED = "does not support the condition"
    UNKNOWN = "could not be tested, because the keys do not allow it"


@dataclass(frozen=True)
class ConditionalWrites:
    """How a bucket's server treats conditions, by the kind of write."""

    put: Support
    """A PUT, with If-None-Match or If-Match."""
    multipart: Support
    """The completion of a multipart upload, with either condition."""
    copy: Support
    """A copy, with either condition on its target."""
    delete: Support
    """A deletion, with If-Match."""

    def list_problems(self) -> list[str]:
        """List the conditions that the server does not honour, each as part of a sentence."""
        writes = {
            "a PUT": self.put,
            "the completion of a multipart upload": self.multipart,
            "a copy": self.copy,
            "a deletion": self.delete,
        }
        return [
            f"{write} whose condition does not hold (the server {support})"
            for write, support in writes.items()
            if support in {Support.IGNORED, Support.UNSUPPORTED}
        ]


def probe_conditional_writes(bucket: Bucket) -> ConditionalWrites:
    """Try writes whose conditions do not hold, on an object that belongs to no job. Raises StoreErrors."""
    probe = _Probe(bucket)
    probe.attempt(probe.put, {"IfNoneMatch": "*"})  # creates the object
    return ConditionalWrites(
        put=probe.attempt_both(probe.put),
        multipart=probe.attempt_both(probe.put_in_parts),
        copy=probe.attempt_both(probe.copy),
        delete=probe.attempt_deletion(),
    )


def require_conditional_writes(bucket: Bucket) -> None:
    """Raise ConditionsNotHonoured if two attempts at a job could overwrite each other's state.

    If the server ignores only the condition of a copy, log a warning instead.
    """
    found = probe_conditional_writes(bucket)
    needed = (found.put, found.multipart)
    if any(support is not Support.HONOURED for support in needed) or found.copy is Support.UNSUPPORTED:
        raise _build_refusal(bucket, found, "train on")
    if found.copy is Support.IGNORED:
        log.warning(
            "S3 at %s does not honour the condition of a copy: an attempt that has been replaced could "
            "restore an older state. The next attempt continues from the newest state that it finds.",
            bucket.endpoint,
        )


def require_verified_writes(bucket: Bucket) -> None:
    """Raise ConditionsNotHonoured if the server stores bytes that do not match the SHA-256 sent with them."""
    try:
        with translate_s3_errors(bucket.client, bucket.at(PROBE_KEY)):
            bucket.client.put_object(
                Bucket=bucket.name,
                Key=PROBE_KEY,
                Body=_CONTENT,
                ChecksumSHA256=compute_checksum(_CONTENT[1:]),
            )
    except BytesRefused:
        return
    raise ConditionsNotHonoured(
        f"S3 at {bucket.endpoint} stores bytes that do not match the SHA-256 sent with them, so a state that "
        f"was damaged on its way to bucket {bucket.name!r} would be recorded as intact. Do not store "
        "training states on this server: use one that verifies x-amz-checksum-sha256 (docs/deployment.md, S3)"
    )


def require_conditional_deletes(bucket: Bucket) -> None:
    """Raise ConditionsNotHonoured if a deletion could remove an object that has just been replaced."""
    found = probe_conditional_writes(bucket)
    if found.delete in {Support.IGNORED, Support.UNSUPPORTED}:
        raise _build_refusal(bucket, found, "delete states on")


def _build_refusal(bucket: Bucket, found: ConditionalWrites, what: str) -> ConditionsNotHonoured:
    return ConditionsNotHonoured(
        f"S3 at {bucket.endpoint} does not refuse {', '.join(found.list_problems())}, so in bucket "
        f"{bucket.name!r} two attempts at one job could overwrite or delete each other's state. Do not "
        f"{what} this server: use one that honours If-Match and If-None-Match (docs/deployment.md, S3)"
    )


class _Probe:
    """Tries each kind of write on the same object."""

    def __init__(self, bucket: Bucket) -> None:
        self._client, self._at = bucket.client, bucket.at(PROBE_KEY)

    def attempt(self, write: Callable[[Condition], None], condition: Condition) -> Support:
        """Try a write whose condition does not hold."""
        try:
            with translate_s3_errors(self._client, self._at):
                write(condition)
        except ConditionFailed:
            return Support.HONOURED
        except RequestNotSupported:
            return Support.UNSUPPORTED
        return Support.IGNORED

    def attempt_both(self, write: Callable[[Condition], None]) -> Support:
        """Try a write that requires the object not to exist, and one that requires an ETag that none has."""
        first = self.attempt(write, {"IfNoneMatch": "*"})
        return first if first is not Support.HONOURED else self.attempt(write, {"IfMatch": _NOBODYS_ETAG})

    def attempt_deletion(self) -> Support:
        """Try a deletion. Training never deletes a checkpoint, so its access keys need not allow this."""
        try:
            return self.attempt(self._delete, {"IfMatch": _NOBODYS_ETAG})
        except StoreAccessDenied:
            return Support.UNKNOWN

    def put(self, condition: Condition) -> None:
        self._client.put_object(Bucket=self._at.bucket, Key=self._at.key, Body=_CONTENT, **condition)

    def put_in_parts(self, condition: Condition) -> None:
        upload = MultipartUpload(self._client, self._at, {})
        try:
            upload.send_bytes(_CONTENT)
            upload.complete(condition)
        except BaseException:
            upload.abort()
            raise

    def copy(self, condition: Condition) -> None:
        self._client.copy_object(
            Bucket=self._at.bucket,
            Key=self._at.key,
            CopySource={"Bucket": self._at.bucket, "Key": self._at.key},
            MetadataDirective="REPLACE",  # without this, S3 refuses to copy an object to itself
            **condition,
        )

    def _delete(self, condition: Condition) -> None:
        self._client.delete_object(Bucket=self._at.bucket, Key=self._at.key, IfMatch=condition["IfMatch"])
