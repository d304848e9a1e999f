"""An upload as the client announced it: its files, each with the parts in which it is sent."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

from include.datasets.names import is_ignored, split_safely
from include.datasets.uploads.errors import UploadRefused
from include.limits import ARCHIVE_BYTES, UPLOAD_FILES, UPLOAD_FILES_IN_PARTS, UPLOAD_PART, in_words
from include.refusals import show_value
from include.s3.layout import build_upload_prefix
from include.s3.location import S3Location

_WHOLE = (".zip", ".ndjson")
"""A file with one of these suffixes is a whole dataset."""


class UploadFile(BaseModel):
    """One file of an upload."""

    model_config = ConfigDict(frozen=True)

    path: str
    """Relative to the dataset."""
    size: int
    """In bytes."""
    multipart_id: str | None = None
    """S3's id of the multipart upload; None if the file is sent in one piece."""

    @property
    def parts(self) -> int:
        """The number of parts, at least one."""
        return max(1, -(-self.size // UPLOAD_PART))

    def measure_part(self, part: int) -> int:
        """Return the size in bytes of the part with this number; numbers start at 1."""
        return min(UPLOAD_PART, self.size - (part - 1) * UPLOAD_PART)


class Upload(BaseModel):
    """An upload; its record in S3 contains these fields."""

    model_config = ConfigDict(frozen=True)

    upload_id: str
    """A UTC time stamp and random hexadecimal digits, see `plan_upload`."""
    created_by: str
    """Name of the Airflow user who announced the files."""
    created_at: datetime
    """When the files were announced, in UTC."""
    files: tuple[UploadFile, ...]
    """The announced files, in the client's order: a FilePart names a file by its position."""
    completed_at: datetime | None = None
    """When the upload was completed, in UTC; None until then, and again once its removal has begun."""
    removed_at: datetime | None = None
    """When the removal of the upload began; None if it has not begun. The record itself is removed last."""

    @property
    def prefix(self) -> str:
        """The prefix of its files' keys."""
        return build_upload_prefix(self.upload_id)

    def build_key(self, file: UploadFile) -> str:
        """Return the key of one of its files."""
        return f"{self.prefix}{file.path}"

    def build_source(self, bucket: str) -> str:
        """Return the value for the parameter `dataset`: the URI of the only file, or of the files' prefix."""
        alone = self.files[0].path if len(self.files) == 1 else ""
        return S3Location(bucket, f"{self.prefix}{alone}").uri


def plan_upload(files: Sequence[UploadFile], user: str) -> Upload:
    """Check the announced files, and give the upload an unused id. Raises UploadRefused."""
    if not files:
        raise UploadRefused("files is empty: name at least one file")
    if len(files) > UPLOAD_FILES:
        raise UploadRefused(
            f"files has {len(files):,} entries, more than the limit of {UPLOAD_FILES:,}: pack them into one "
            ".zip, or copy them under a prefix of the bucket"
        )
    _check_sizes(files)
    _check_paths([file.path for file in files])
    if len(files) == 1 and not files[0].path.lower().endswith(_WHOLE):
        raise UploadRefused(
            f"path={show_value(files[0].path)} alone is not a dataset: send a {' or '.join(_WHOLE)} file, or "
            "the whole folder with images, labels and data YAML"
        )
    now = datetime.now(UTC)
    return Upload(
        upload_id=f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(8)}",
        created_by=user,
        created_at=now,
        files=tuple(files),
    )


def _check_sizes(files: Sequence[UploadFile]) -> None:
    """Raise UploadRefused if the files have too many bytes, or if too many of them are sent in parts."""
    total = sum(file.size for file in files)
    if total > ARCHIVE_BYTES:
        raise UploadRefused(
            f"the files take {in_words(total)} in total, more than the limit of {in_words(ARCHIVE_BYTES)}: "
            "copy them under a prefix of the bucket with an S3 client instead"
        )
    divided = sum(file.parts > 1 for file in files)
    if divided > UPLOAD_FILES_IN_PARTS:
        raise UploadRefused(
            f"{divided:,} files are larger than {in_words(UPLOAD_PART)}, and the limit is "
            f"{UPLOAD_FILES_IN_PARTS:,} such files: pack them into one .zip"
        )


def _check_paths(paths: Sequence[str]) -> None:
    """Raise UploadRefused if a path is unsafe, is ignored in training, or conflicts with another path."""
    seen: set[str] = set()
    folders: set[str] = set()
    for path in paths:
        try:
            parts = split_safely(path)
        except ValueError as error:
            raise UploadRefused(f"path={show_value(path)} is refused: {error}") from None
        if "/".join(parts) != path:
            raise UploadRefused(
                f"path={show_value(path)} is refused: write it as {show_value('/'.join(parts))}"
            )
        if is_ignored(parts):
            raise UploadRefused(
                f"path={show_value(path)} is a hidden file or a cache, which training ignores; leave it out"
            )
        if path in seen:
            raise UploadRefused(f"path={show_value(path)} is given twice; name each file once")
        seen.add(path)
        folders |= {"/".join(parts[:depth]) for depth in range(1, len(parts))}
    if both := sorted(seen & folders):
        raise UploadRefused(
            f"path={show_value(both[0])} is a file and also a folder of other files; rename it"
        )
