"""A listing equals that of botocore, although its pages are parsed differently."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import boto3
import pytest

from include.s3.listing import ListedObject, list_level, list_pages
from include.s3.location import S3Location
from tests.support.http_server import Handler, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_s3 import S3Client

    from include.stack.s3 import S3


def test_a_listing_equals_that_of_botocore(s3: S3, s3_client: S3Client, bucket: str) -> None:
    for key in ("set/a", "set/b & <LastModified>.jpg", "set/folder/c", "set/\u00e4"):
        s3_client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    plain = s3.client().list_objects_v2(Bucket=bucket, Prefix="set/")["Contents"]
    usual = [
        ListedObject(S3Location(bucket, each["Key"]), each["Size"], each["ETag"], each["LastModified"])
        for each in plain
    ]
    (page,) = list_pages(s3_client, S3Location(bucket, "set/"))
    assert page == usual
    level = [*(each for each in usual if each.location.key != "set/folder/c"), "set/folder/"]
    assert list(list_level(s3_client, S3Location(bucket, "set/"))) == [level]
    assert list(list_level(s3_client, S3Location(bucket, "set/"), after="set/b")) == [level[1:]]
    assert s3_client.list_objects_v2(Bucket=bucket, Prefix="set/")["Contents"] == plain


AT = datetime(2026, 11, 28, 14, 16, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    "time", ["2026-11-28T14:16:09Z", "2026-11-28T15:16:09.000+01:00", "Sat, 28 Nov 2026 14:16:09 GMT"]
)
def test_any_format_of_a_time_is_read(answering: Callable[[str], S3Client], time: str) -> None:
    """A time that is not in ISO 8601 is left to botocore."""
    client = answering(
        f"<Contents><Key>a</Key><ETag>e</ETag><Size>1</Size><LastModified>{time}</LastModified></Contents>"
    )
    assert list(list_pages(client, S3Location("bucket", ""))) == [
        [ListedObject(S3Location("bucket", "a"), 1, "e", AT)]
    ]


@pytest.mark.parametrize(
    "more",
    [
        "<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>",
        "<Owner><ID>someone</ID></Owner>",
        "",
    ],
)
def test_other_fields_of_an_object_are_ignored_here_and_kept_in_botocores_listing(
    answering: Callable[[str], S3Client], more: str
) -> None:
    """Amazon lists checksums. Owners are nested elements, so botocore parses pages with owners."""
    client = answering(
        "<EncodingType>url</EncodingType><Contents><Key>a%2Bb+c</Key><ETag>e</ETag><Size>1</Size>"
        f"<LastModified>2026-11-28T14:16:09Z</LastModified>{more}</Contents>"
    )
    usual = client.list_objects_v2(Bucket="bucket")["Contents"]
    assert list(list_pages(client, S3Location("bucket", ""))) == [
        [ListedObject(S3Location("bucket", "a+b c"), 1, "e", AT)]
    ]
    assert client.list_objects_v2(Bucket="bucket")["Contents"] == usual


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("a&amp;b &quot;c&#34; &#228;&#x1F600;", 'a&b "c" \u00e4\U0001f600'),
        ("<![CDATA[a<b]]>", "a<b"),
        ("a<!-- not of it -->b", "ab"),
    ],
)
def test_a_key_is_read_as_xml(answering: Callable[[str], S3Client], written: str, key: str) -> None:
    client = answering(
        f"<Contents><Key>{written}</Key><ETag>e</ETag><Size>1</Size>"
        "<LastModified>2026-11-28T14:16:09Z</LastModified></Contents>"
    )
    assert list(list_pages(client, S3Location("bucket", ""))) == [
        [ListedObject(S3Location("bucket", key), 1, "e", AT)]
    ]


@pytest.fixture
def answering() -> Iterator[Callable[[str], S3Client]]:
    """Start a server that lists these objects, because the form of SeaweedFS's times cannot be chosen."""
    with ExitStack() as servers:

        def start(objects: str) -> S3Client:
            class Listing(Handler):
                def do_GET(self) -> None:
                    self.respond(200, f"<ListBucketResult>{objects}</ListBucketResult>".encode())

            url = servers.enter_context(Server(Listing)).url
            return boto3.client(
                "s3", endpoint_url=url, region_name="us-east-1",
                aws_access_key_id="key", aws_secret_access_key="secret",
            )  # fmt: skip

        yield start
