"""Addresses of objects: bucket and key."""

from __future__ import annotations

from dataclasses import dataclass

JOB_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z"
JOB_ID_RULE = "1 to 128 letters, digits, '.', '_' or '-', beginning with a letter or a digit"
"""A job's id is used in S3 keys and as a folder name on workers, so it must not contain a path."""


def has_dot_segment(key: str) -> bool:
    """Return whether a segment of the key is `.` or `..`: S3 resolves neither, and servers refuse it."""
    return not {".", ".."}.isdisjoint(key.split("/"))


@dataclass(frozen=True, slots=True)
class S3Location:
    """The address of an object."""

    bucket: str
    """Name of the bucket."""
    key: str
    """Key of the object within the bucket, or a prefix of keys; empty for the whole bucket."""

    @property
    def uri(self) -> str:
        """The address as a URI, `s3://bucket/key`."""
        return f"s3://{self.bucket}/{self.key}"

    @classmethod
    def parse(cls, uri: str) -> S3Location:
        """Parse an s3:// URI. Raises ValueError for anything else."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        if not uri.startswith("s3://") or not bucket or not key or key.endswith("/"):
            raise ValueError(f"{uri!r} is not the address of an object; write s3://<bucket>/<key>")
        return cls(bucket, key)
