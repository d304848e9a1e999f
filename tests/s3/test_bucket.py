"""Many objects are deleted with few requests, and an object that could not be deleted is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from include.s3.bucket import Bucket
from include.s3.errors import StoreAccessDenied

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def test_objects_below_a_prefix_are_deleted_with_one_request_per_page(
    s3_client: S3Client, bucket: str
) -> None:
    for key in ("set/a", "set/b & c.jpg", "set/ä", "set/kept", "settle/d"):
        s3_client.put_object(Bucket=bucket, Key=key, Body=b"1234")
    sent: list[str] = []
    s3_client.meta.events.register("before-call.s3", lambda model, **_: sent.append(model.name))
    place = Bucket(s3_client, bucket)
    assert place.delete_below("set/", lambda key: key != "set/kept") == (3, 12)
    assert sent.count("DeleteObjects") == 1
    assert "DeleteObject" not in sent
    assert [item.location.key for item in place.list_objects("")] == ["set/kept", "settle/d"]
    assert place.delete_below("nothing/") == (0, 0)


def test_an_object_whose_deletion_is_denied_is_named(s3_client: S3Client, bucket: str) -> None:
    s3_client.put_object(Bucket=bucket, Key="set/a", Body=b"1234")

    def refuse(parsed: dict[str, Any], **_: Any) -> None:
        parsed["Errors"] = [{"Key": "set/a", "Code": "AccessDenied", "Message": "no"}]

    s3_client.meta.events.register("after-call.s3.DeleteObjects", refuse)
    try:
        with pytest.raises(StoreAccessDenied, match="set/a"):
            Bucket(s3_client, bucket).delete_below("set/")
    finally:  # all tests share the client
        s3_client.meta.events.unregister("after-call.s3.DeleteObjects", refuse)
