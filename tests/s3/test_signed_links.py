"""Signed links have the origin to which pages are allowed to upload files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import boto3
import pytest

from include.s3.client import build_signing_config
from include.s3.errors import StoreAccessDenied
from include.s3.signed_links import find_origin_of_links

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def signer(endpoint: str | None, key: str | None = "key") -> S3Client:
    """Return a client as `create_s3_signer` creates it."""
    session = boto3.Session(aws_access_key_id=key, aws_secret_access_key=key, region_name="eu-west-1")
    return session.client("s3", endpoint_url=endpoint, config=build_signing_config(endpoint))


@pytest.mark.parametrize(
    ("endpoint", "origin"),
    [
        ("http://127.0.0.1:8333", "http://127.0.0.1:8333"),
        ("https://s3.example.org/behind/a/path", "https://s3.example.org"),
        (None, "https://bucket.s3.eu-west-1.amazonaws.com"),
    ],
)
def test_the_origin_equals_that_of_the_links(endpoint: str | None, origin: str) -> None:
    client = signer(endpoint)
    assert find_origin_of_links(client, "bucket") == origin
    link = client.generate_presigned_url("put_object", Params={"Bucket": "bucket", "Key": "uploads/x"})
    assert link.startswith(f"{origin}/")


def test_without_keys_there_is_no_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(StoreAccessDenied, match="There are no credentials"):
        find_origin_of_links(signer("http://127.0.0.1:9", key=None), "bucket")
