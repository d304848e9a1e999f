"""Functions with which tests read and change objects in S3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.s3.location import S3Location

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def keys(client: S3Client, bucket: str, prefix: str = "") -> set[str]:
    """Return the keys with this prefix."""
    listed = client.list_objects_v2(Bucket=bucket, Prefix=prefix)
    return {item["Key"] for item in listed.get("Contents", [])}


def body(client: S3Client, uri: str) -> bytes:
    """Return the bytes of the object at an s3:// URI."""
    at = S3Location.parse(uri)
    return client.get_object(Bucket=at.bucket, Key=at.key)["Body"].read()


def metadata(client: S3Client, uri: str) -> dict[str, str]:
    """Return the metadata of the object at an s3:// URI."""
    at = S3Location.parse(uri)
    return client.head_object(Bucket=at.bucket, Key=at.key)["Metadata"]


def replace(client: S3Client, uri: str, content: bytes, metadata: dict[str, str]) -> None:
    """Replace an object's content."""
    at = S3Location.parse(uri)
    client.put_object(Bucket=at.bucket, Key=at.key, Body=content, Metadata=metadata)


def delete(client: S3Client, uri: str) -> None:
    """Delete the object at an s3:// URI."""
    at = S3Location.parse(uri)
    client.delete_object(Bucket=at.bucket, Key=at.key)
