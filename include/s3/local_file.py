"""A local file to upload: its hashes, and its parts."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from include.s3.deadline import check_deadline

if TYPE_CHECKING:
    from s3transfer.utils import ReadFileChunk

_MAX_PARTS = 10_000  # S3's own limit


@dataclass(frozen=True)
class TransferLimits:
    """Limits for uploads and copies. S3 accepts, and copies, at most 5 GiB in one request."""

    threshold: int = 5 * 1024**3
    """Size in bytes above which a file is uploaded in parts; a retry need not resend parts that arrived.

    Smaller files are not split, because a single PUT is safer: S3 compares its bytes with the checksum of the
    whole file. With parts, S3 stores only a checksum of the parts' checksums, and not every server checks the
    condition and assembles the parts in one atomic step.
    """
    part_size: int = 64 * 1024**2
    """In bytes."""
    parallel_parts: int = 4
    """Number of parts that are uploaded concurrently."""
    copied_at_once: int = 5 * 1024**3
    """Size in bytes above which an object is copied in parts of this size."""
    answer_seconds: float = 5.0
    """If no byte is sent and no response arrives for this long, a HEAD request checks whether S3 has the
    object."""


@dataclass(frozen=True)
class Part:
    """A piece of a file."""

    number: int
    """Counted from 1."""
    offset: int
    """Where the piece begins in the file, in bytes."""
    size: int
    """In bytes."""
    sha256: bytes
    """Hash of the piece, as 32 bytes."""

    @property
    def checksum(self) -> str:
        """The SHA-256 in Base64, as S3 expects it."""
        return in_base64(self.sha256)


@dataclass(frozen=True)
class LocalFile:
    """A file and its hashes."""

    path: Path
    """Where the file is on this machine."""
    size: int
    """In bytes."""
    sha256: str
    """Hash of the whole file, in hexadecimal."""
    parts: tuple[Part, ...] = ()
    """The parts of a multipart upload, with their hashes; empty if the file is sent in one request."""

    @classmethod
    def read(cls, path: Path, limits: TransferLimits, sha256: str | None = None) -> LocalFile:
        """Hash the file. Raises FileNotFoundError if it does not exist.

        With `sha256`, a file that is sent in one request is not read, because S3 compares it with that hash.
        """
        size = path.stat().st_size
        if sha256 is not None and size <= limits.threshold:
            return cls(path, size, sha256)
        with path.open("rb") as file:
            if size <= limits.threshold:
                return cls(path, size, hashlib.file_digest(file, "sha256").hexdigest())
            whole, parts = hashlib.sha256(), list[Part]()
            part_size = max(limits.part_size, ceil(size / _MAX_PARTS))
            while block := file.read(part_size):
                whole.update(block)
                parts.append(
                    Part(len(parts) + 1, len(parts) * part_size, len(block), hashlib.sha256(block).digest())
                )
        return cls(path, size, whole.hexdigest(), tuple(parts))

    @property
    def stored_checksum(self) -> str:
        """The checksum that S3 stores: that of the whole file or, for parts, that of the parts' checksums."""
        if not self.parts:
            return in_base64(bytes.fromhex(self.sha256))
        composite = hashlib.sha256(b"".join(part.sha256 for part in self.parts)).digest()
        return f"{in_base64(composite)}-{len(self.parts)}"


def open_body(path: Path, offset: int, size: int) -> ReadFileChunk:
    """Return the `size` bytes from `offset` as a file; reading it raises UploadGivenUp after the deadline."""
    from s3transfer.utils import ReadFileChunk

    return ReadFileChunk.from_filename(str(path), offset, size, callbacks=[check_deadline])


def in_base64(digest: bytes) -> str:
    """Return a digest in Base64, as S3 expects it."""
    return b64encode(digest).decode("ascii")
