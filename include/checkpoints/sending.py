"""One local file to one S3 object: hashed, checked by the server, over no object but the expected one.

Up to a threshold it is one PUT, above it a multipart upload whose parts go in parallel. In both, the server
checks every byte against the SHA-256 of what was hashed here, so a file that changes while it is sent never
becomes an object.
"""

from __future__ import annotations

import hashlib
import logging
from base64 import b64encode
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypedDict, cast

from include.checkpoints.deadline import check_deadline

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef
    from s3transfer.utils import ReadFileChunk

    from include.checkpoints.location import S3Location

log = logging.getLogger(__name__)

_MAX_PARTS = 10_000  # S3's own limit


class Condition(TypedDict, total=False):
    """When a write may happen: over the object with this ETag, or only where there is none."""

    IfMatch: str
    IfNoneMatch: str


@dataclass(frozen=True)
class TransferLimits:
    """Sizes in bytes. Above `threshold` (S3 takes 5 GiB in one PUT) a file goes in parts of `part_size`."""

    threshold: int = 5 * 1024**3
    part_size: int = 64 * 1024**2
    parallel_parts: int = 4


@dataclass(frozen=True)
class _Part:
    number: int
    offset: int
    size: int
    sha256: bytes


@dataclass(frozen=True)
class LocalFile:
    """A file and the hashes it had when it was read: of the whole and, if it goes in parts, of each part."""

    path: Path
    size: int
    sha256: str
    parts: tuple[_Part, ...] = ()

    @classmethod
    def read(cls, path: Path, limits: TransferLimits) -> LocalFile:
        """Hash the file once; raises FileNotFoundError if it is not there."""
        size = path.stat().st_size
        with path.open("rb") as file:
            if size <= limits.threshold:
                return cls(path, size, hashlib.file_digest(file, "sha256").hexdigest())
            whole, parts = hashlib.sha256(), list[_Part]()
            part_size = max(limits.part_size, ceil(size / _MAX_PARTS))
            while block := file.read(part_size):
                whole.update(block)
                parts.append(
                    _Part(len(parts) + 1, len(parts) * part_size, len(block), hashlib.sha256(block).digest())
                )
        return cls(path, size, whole.hexdigest(), tuple(parts))

    @property
    def stored_checksum(self) -> str:
        """The checksum S3 keeps: of the whole file, or (composite) of the parts' checksums."""
        if not self.parts:
            return _base64(bytes.fromhex(self.sha256))
        composite = hashlib.sha256(b"".join(part.sha256 for part in self.parts)).digest()
        return f"{_base64(composite)}-{len(self.parts)}"


def send(
    client: S3Client,
    file: LocalFile,
    location: S3Location,
    metadata: Mapping[str, str],
    condition: Condition,
    limits: TransferLimits,
) -> str:
    """Store `file` at `location` and return its ETag. Raises what boto3 raises; then nothing has changed."""
    if file.parts:
        return _in_parts(
            client,
            location,
            metadata,
            condition,
            lambda upload_id: _send_parts(client, file, location, upload_id, limits.parallel_parts),
        )
    with _body(file.path, 0, file.size) as body:
        stored = client.put_object(
            Bucket=location.bucket,
            Key=location.key,
            Body=cast("IO[bytes]", body),
            ContentLength=file.size,
            ChecksumSHA256=file.stored_checksum,
            Metadata=metadata,
            **condition,
        )
    return stored["ETag"]


def copy(
    client: S3Client,
    location: S3Location,
    etag: str,
    to: S3Location,
    metadata: Mapping[str, str],
    limits: TransferLimits,
    condition: Condition,
) -> None:
    """Copy the object with that ETag within S3, and only that one, giving the copy `metadata`.

    Metadata are given rather than copied, because a copy in parts would lose them. condition says what the
    copy may replace. Raises what boto3 raises; then nothing has changed.
    """
    size = client.head_object(Bucket=location.bucket, Key=location.key, IfMatch=etag)["ContentLength"]
    if size > limits.threshold:
        _in_parts(
            client,
            to,
            metadata,
            condition,
            lambda upload_id: _copy_parts(client, location, etag, size, to, upload_id, limits.part_size),
        )
        return
    client.copy_object(
        Bucket=to.bucket,
        Key=to.key,
        CopySource={"Bucket": location.bucket, "Key": location.key},
        CopySourceIfMatch=etag,
        MetadataDirective="REPLACE",
        Metadata=metadata,
        ChecksumAlgorithm="SHA256",
        **condition,
    )


def _in_parts(
    client: S3Client,
    location: S3Location,
    metadata: Mapping[str, str],
    condition: Condition,
    send: Callable[[str], list[CompletedPartTypeDef]],
) -> str:
    """Make an object of the parts that send(upload_id) brings there, and return its ETag."""
    upload_id = client.create_multipart_upload(
        Bucket=location.bucket, Key=location.key, ChecksumAlgorithm="SHA256", Metadata=metadata
    )["UploadId"]
    try:
        return client.complete_multipart_upload(
            Bucket=location.bucket,
            Key=location.key,
            UploadId=upload_id,
            MultipartUpload={"Parts": send(upload_id)},
            **condition,
        )["ETag"]
    except BaseException:
        _abort(client, location, upload_id)
        raise


def _copy_parts(
    client: S3Client,
    source: S3Location,
    etag: str,
    size: int,
    to: S3Location,
    upload_id: str,
    part_size: int,
) -> list[CompletedPartTypeDef]:
    # One after the other: a deadline bounds the requests of the thread that it was set in.
    step = max(part_size, ceil(size / _MAX_PARTS))
    parts: list[CompletedPartTypeDef] = []
    for offset in range(0, size, step):
        copied = client.upload_part_copy(
            Bucket=to.bucket,
            Key=to.key,
            UploadId=upload_id,
            PartNumber=len(parts) + 1,
            CopySource={"Bucket": source.bucket, "Key": source.key},
            CopySourceIfMatch=etag,
            CopySourceRange=f"bytes={offset}-{min(offset + step, size) - 1}",
        )["CopyPartResult"]
        part: CompletedPartTypeDef = {"PartNumber": len(parts) + 1, "ETag": copied["ETag"]}
        if checksum := copied.get("ChecksumSHA256"):
            part["ChecksumSHA256"] = checksum
        parts.append(part)
    return parts


def _send_parts(
    client: S3Client, file: LocalFile, location: S3Location, upload_id: str, parallel: int
) -> list[CompletedPartTypeDef]:
    def send_part(part: _Part) -> CompletedPartTypeDef:
        checksum = _base64(part.sha256)
        with _body(file.path, part.offset, part.size) as body:
            etag = client.upload_part(
                Bucket=location.bucket,
                Key=location.key,
                UploadId=upload_id,
                PartNumber=part.number,
                Body=cast("IO[bytes]", body),
                ChecksumSHA256=checksum,
            )["ETag"]
        return {"PartNumber": part.number, "ETag": etag, "ChecksumSHA256": checksum}

    with ThreadPoolExecutor(parallel, thread_name_prefix="upload-part") as threads:
        sending = [threads.submit(copy_context().run, send_part, part) for part in file.parts]
        try:
            return [part.result() for part in sending]
        except BaseException:
            # A part that arrives after the abort would stay in the bucket, invisible and paid for.
            threads.shutdown(cancel_futures=True)
            raise


def _body(path: Path, offset: int, size: int) -> ReadFileChunk:
    """A piece of the file, which cannot be read any more once the deadline is over."""
    from s3transfer.utils import ReadFileChunk

    return ReadFileChunk.from_filename(str(path), offset, size, callbacks=[check_deadline])


def _abort(client: S3Client, location: S3Location, upload_id: str) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client.abort_multipart_upload(Bucket=location.bucket, Key=location.key, UploadId=upload_id)
    except client.exceptions.NoSuchUpload:
        pass
    except (BotoCoreError, ClientError) as error:
        log.warning(
            "Parts of upload %s to %s could not be removed (%s); a lifecycle rule that aborts incomplete "
            "multipart uploads does that.",
            upload_id,
            location.uri,
            error,
        )


def _base64(digest: bytes) -> str:
    return b64encode(digest).decode("ascii")
