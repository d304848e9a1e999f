"""Where an object is: bucket and key."""

from __future__ import annotations

from dataclasses import dataclass

JOB_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z"
JOB_ID_RULE = "1 to 128 letters, digits, '.', '_' or '-', beginning with a letter or a digit"
"""A job's id is a part of keys in S3 and a folder on every worker: it must lead nowhere else."""


@dataclass(frozen=True)
class S3Location:
    """One object's address."""

    bucket: str
    key: str

    @property
    def uri(self) -> str:
        """The address as people write it, `s3://bucket/key`."""
        return f"s3://{self.bucket}/{self.key}"

    @classmethod
    def parse(cls, uri: str) -> S3Location:
        """Take an s3:// URI apart; raises ValueError for anything else."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        if not uri.startswith("s3://") or not bucket or not key or key.endswith("/"):
            raise ValueError(f"{uri!r} is no address of an object; write s3://<bucket>/<key>")
        return cls(bucket, key)
