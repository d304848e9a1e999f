"""Where an object is: bucket and key."""

from __future__ import annotations

from dataclasses import dataclass


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
