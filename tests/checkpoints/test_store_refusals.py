"""Refusals by S3 and a missing server are reported with the setting to change."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from botocore import UNSIGNED
from botocore.config import Config

from include.checkpoints.store import CheckpointStore
from include.s3.bucket import Bucket
from include.s3.errors import (
    BucketMissing,
    ClockSkew,
    FencedOut,
    LocalDiskError,
    StoreAccessDenied,
    StoreError,
    StoreRefusal,
    StoreUnavailable,
    StoreUnreachable,
)
from tests.checkpoints.conftest import VERSION, Connect, checkpoint_file
from tests.support.faults.hold import Hold
from tests.support.faults.s3_proxy import Answer, Behaviour, Request, S3Proxy
from tests.support.http_server import Handler, Server

if TYPE_CHECKING:
    from include.stack.s3 import S3


@pytest.mark.parametrize("action", ["head", "upload", "download"])
def test_a_bucket_that_does_not_exist_is_named_and_not_created(
    connect: Connect, bucket: str, tmp_path: Path, action: str
) -> None:
    client = connect()
    store = CheckpointStore(Bucket(client, f"{bucket}-typo"))
    actions: dict[str, Callable[[], object]] = {
        "head": lambda: store.head("job", "last"),
        "upload": lambda: store.upload(checkpoint_file(tmp_path, 0, size=10), "job", "last", VERSION),
        "download": lambda: store.download("job", "last", tmp_path / "got.pt"),
    }

    with pytest.raises(BucketMissing, match=rf"Bucket '{bucket}-typo' does not exist .* CHECKPOINT_BUCKET"):
        actions[action]()

    assert f"{bucket}-typo" not in {each["Name"] for each in client.list_buckets()["Buckets"]}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"aws_secret_access_key": "wrong"}, r"does not accept the keys .* \(SignatureDoesNotMatch\)"),
        ({"aws_access_key_id": "unknown"}, r"does not accept the keys .* \(InvalidAccessKeyId\)"),
        ({"config": Config(signature_version=UNSIGNED)}, r"does not allow \w+ on s3://.*/last.pt; grant s3:"),
    ],
)
def test_rejected_keys_are_explained(
    connect: Connect, bucket: str, changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(StoreAccessDenied, match=sentence):
        CheckpointStore(Bucket(connect(**changes), bucket)).head("job", "last")


def test_a_connection_without_keys_is_explained(
    connect: Connect, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    client = connect(aws_access_key_id=None, aws_secret_access_key=None)

    with pytest.raises(StoreAccessDenied, match="There are no credentials"):
        CheckpointStore(Bucket(client, bucket)).head("job", "last")


def test_a_missing_endpoint_is_named(connect: Connect, bucket: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        endpoint = f"http://127.0.0.1:{reserved.getsockname()[1]}"
    with pytest.raises(StoreUnreachable, match=rf"{endpoint} does not respond, .* training_s3"):
        CheckpointStore(Bucket(connect(endpoint), bucket)).head("job", "last")


class _Answer(Handler):
    """Sends the responses documented by AWS that no S3 server on this machine can produce."""

    protocol_version = "HTTP/1.1"
    status = 403
    code = "RequestTimeTooSkewed"

    def handle_one_request(self) -> None:
        self.close_connection = True
        super().handle_one_request()

    def do_HEAD(self) -> None:
        self._answer(404 if self.code == "ConditionalRequestConflict" else self.status, b"")

    def do_GET(self) -> None:
        if self.code == "ConditionalRequestConflict":
            self._answer(404, b"<Error><Code>NoSuchKey</Code><Message>No.</Message></Error>")
        else:
            self._refuse()

    def do_PUT(self) -> None:
        self.body()
        self._refuse()

    def _refuse(self) -> None:
        self._answer(self.status, f"<Error><Code>{self.code}</Code><Message>No.</Message></Error>".encode())

    def _answer(self, status: int, body: bytes) -> None:
        headers = {"Content-Length": str(len(body))}
        self.respond(status, b"" if self.command == "HEAD" else body, headers)


@contextmanager
def aws_that_says(status: int, code: str) -> Iterator[str]:
    handler = type("Answer", (_Answer,), {"status": status, "code": code})
    with Server(handler) as server:
        yield server.url


@pytest.mark.parametrize(
    ("status", "code", "error", "sentence"),
    [
        (403, "RequestTimeTooSkewed", ClockSkew, r"clock differs too much .* \(NTP\)"),
        (409, "ConditionalRequestConflict", StoreError, "another write to it was in progress"),
        (400, "ExpiredToken", StoreError, "refused .*: ExpiredToken No$"),
    ],
)
def test_refusals_that_only_aws_sends_are_explained(
    connect: Connect, tmp_path: Path, status: int, code: str, error: type[StoreError], sentence: str
) -> None:
    checkpoint = checkpoint_file(tmp_path, 0, size=10)

    with aws_that_says(status, code) as endpoint, pytest.raises(error, match=sentence):
        CheckpointStore(Bucket(connect(endpoint), "bucket")).upload(checkpoint, "job", "last", VERSION)


def server_gone_since(method: str) -> Behaviour:
    """Return the behaviour of a proxy whose server goes away before the first request with that method."""
    gone = False

    def behave(request: Request) -> Answer:
        nonlocal gone
        gone = gone or request.method == method
        page = Answer(404, [("Content-Type", "text/plain")], b"404 page not found\n")
        return page if gone else request.forward()

    return behave


@pytest.mark.parametrize(
    ("method", "keep_previous"),
    [("HEAD", True), ("PUT", True), ("PUT", False)],
    ids=["before the upload", "before the copy of the previous state", "before the new state"],
)
def test_a_404_from_a_proxy_does_not_mean_that_the_state_is_gone(
    connect: Connect, s3: S3, bucket: str, tmp_path: Path, method: str, keep_previous: bool
) -> None:
    first, second = (checkpoint_file(tmp_path, epoch, size=1000) for epoch in range(2))

    with S3Proxy(s3.endpoint_url, Hold()) as proxy:
        store = CheckpointStore(Bucket(connect(proxy.endpoint_url), bucket))
        store.upload(first, "job", "last", VERSION)
        with (
            proxy.behave_as(server_gone_since(method)),
            pytest.raises(StoreUnavailable, match="with 404, but without S3's error code"),
        ):
            store.upload(second, "job", "last", VERSION, keep_previous=keep_previous)
        store.upload(second, "job", "last", VERSION, keep_previous=keep_previous)

    assert CheckpointStore(Bucket(connect(), bucket)).holds("job", "last", second)


def test_a_state_is_missing_only_if_s3_itself_says_so(
    connect: Connect, s3: S3, bucket: str, tmp_path: Path
) -> None:
    with S3Proxy(s3.endpoint_url, Hold()) as proxy:
        store = CheckpointStore(Bucket(connect(proxy.endpoint_url), bucket))
        assert store.head("job", "last") is None
        with proxy.behave_as(server_gone_since("HEAD")), pytest.raises(StoreUnavailable):
            store.head("job", "last")
        with proxy.behave_as(server_gone_since("GET")), pytest.raises(StoreUnavailable):
            store.download("job", "last", tmp_path / "got.pt")


def test_only_errors_that_a_person_must_fix_are_refusals() -> None:
    assert not issubclass(StoreUnreachable, StoreRefusal)
    assert not issubclass(LocalDiskError, StoreRefusal)
    assert issubclass(FencedOut, StoreRefusal)
