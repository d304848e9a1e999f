"""When files, networks, disks and servers fail, the store leaves no torn object and says a sentence."""

from __future__ import annotations

import resource
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Literal

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config

from include.checkpoints.checkpoint import Checkpoint
from include.checkpoints.store import CheckpointStore
from include.s3.bucket import Bucket
from include.s3.client import client_config
from include.s3.deadline import Deadline
from include.s3.errors import (
    BucketMissing,
    ClockSkew,
    CorruptObject,
    FencedOut,
    LocalDiskError,
    LocalFileChanged,
    StoreAccessDenied,
    StoreError,
    StoreRefusal,
    StoreUnreachable,
    UploadGivenUp,
)
from include.s3.upload import TransferLimits
from tests.support.cutting_proxy import CuttingProxy

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.stack.s3 import S3

VERSION = "8.4.190"
KEY = "checkpoints/job/last.pt"
WHOLE = TransferLimits()
IN_PARTS = TransferLimits(5 * 1024**2, 5 * 1024**2, parallel_parts=2, copied_at_once=5 * 1024**2)
SIZE = 6 * 1024**2

Connect = Callable[..., "S3Client"]
both_ways = pytest.mark.parametrize("limits", [WHOLE, IN_PARTS], ids=["whole", "in parts"])


@pytest.fixture
def connect(s3: S3) -> Connect:
    """Open a client with our settings that gives up after its second attempt."""

    def open_client(endpoint_url: str = s3.endpoint_url, **changes: Any) -> S3Client:
        patient = client_config().merge(Config(retries={"mode": "standard", "total_max_attempts": 2}))
        settings: dict[str, Any] = {
            "endpoint_url": endpoint_url,
            "aws_access_key_id": s3.access_key,
            "aws_secret_access_key": s3.secret_key,
            "region_name": s3.region,
            "config": patient,
        }
        client: S3Client = boto3.client("s3", **(settings | changes))
        return client

    return open_client


def checkpoint_file(folder: Path, epoch: int, size: int = SIZE) -> Checkpoint:
    path = folder / f"epoch-{epoch}.pt"
    path.write_bytes(Random(epoch).randbytes(size))
    return Checkpoint.of_file(path, epoch)


def flip_a_byte(path: str | Path) -> None:
    with Path(path).open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))


def assert_only_the_first_generation_is_there(
    client: S3Client, bucket: str, first: Checkpoint, tmp_path: Path
) -> None:
    """The object is whole and as it was, and no parts of another are left."""
    stored = CheckpointStore(Bucket(client, bucket)).download("job", "last", tmp_path / "there.pt")
    assert stored.sha256 == first.sha256
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)


def test_a_file_that_changed_after_the_training_is_not_stored(
    connect: Connect, bucket: str, tmp_path: Path
) -> None:
    checkpoint = checkpoint_file(tmp_path, 0)
    flip_a_byte(checkpoint.path)

    with pytest.raises(LocalFileChanged, match=r"has changed since .* Clear the task `train`"):
        CheckpointStore(Bucket(connect(), bucket)).upload(checkpoint, "job", "last", VERSION)

    assert connect().list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@both_ways
def test_a_file_that_changes_while_it_is_sent_is_refused_by_the_server(
    connect: Connect, bucket: str, tmp_path: Path, limits: TransferLimits
) -> None:
    first, second = checkpoint_file(tmp_path, 0), checkpoint_file(tmp_path, 1)
    client = connect()
    store = CheckpointStore(Bucket(client, bucket), limits)
    store.upload(first, "job", "last", VERSION)
    flips = iter([second.path])

    def damage(**_: object) -> None:
        for path in flips:
            flip_a_byte(path)

    # Both happen after the hashing and before a byte of the file is read for sending.
    client.meta.events.register("provide-client-params.s3.PutObject", damage)
    client.meta.events.register("provide-client-params.s3.CreateMultipartUpload", damage)
    with pytest.raises(LocalFileChanged, match=second.sha256):
        store.upload(second, "job", "last", VERSION)

    assert_only_the_first_generation_is_there(connect(), bucket, first, tmp_path)


@both_ways
def test_an_upload_survives_a_connection_that_breaks_once(
    connect: Connect, s3: S3, bucket: str, tmp_path: Path, limits: TransferLimits
) -> None:
    checkpoint = checkpoint_file(tmp_path, 0)

    with CuttingProxy(s3.endpoint_url, sent=1024**2, cuts=1) as proxy:
        store = CheckpointStore(Bucket(connect(proxy.endpoint_url), bucket), limits)
        uploaded = store.upload(checkpoint, "job", "last", VERSION)

    assert proxy.cuts == 1
    assert uploaded.stored.is_the_same_as(checkpoint)
    downloaded = CheckpointStore(Bucket(connect(), bucket)).download("job", "last", tmp_path / "got.pt")
    assert downloaded.sha256 == checkpoint.sha256


@both_ways
def test_an_upload_that_cannot_get_through_leaves_the_object_as_it_was(
    connect: Connect, s3: S3, bucket: str, tmp_path: Path, limits: TransferLimits
) -> None:
    first, second = checkpoint_file(tmp_path, 0), checkpoint_file(tmp_path, 1)
    CheckpointStore(Bucket(connect(), bucket)).upload(first, "job", "last", VERSION)

    with CuttingProxy(s3.endpoint_url, sent=1024**2) as proxy:
        store = CheckpointStore(Bucket(connect(proxy.endpoint_url), bucket), limits)
        with pytest.raises(StoreUnreachable, match=proxy.endpoint_url):
            store.upload(second, "job", "last", VERSION)

    assert proxy.cuts > 0
    assert_only_the_first_generation_is_there(connect(), bucket, first, tmp_path)


def test_a_write_whose_answer_was_lost_is_recognised_as_our_own(
    connect: Connect, s3: S3, bucket: str, tmp_path: Path
) -> None:
    first, second = checkpoint_file(tmp_path, 0), checkpoint_file(tmp_path, 1)

    with CuttingProxy(s3.endpoint_url, answer_to_large=SIZE, cuts=1) as proxy:
        store = CheckpointStore(Bucket(connect(proxy.endpoint_url), bucket))
        uploaded = store.upload(first, "job", "last", VERSION)
        store.upload(second, "job", "last", VERSION)

    assert proxy.cuts == 1
    assert uploaded.sent
    assert CheckpointStore(Bucket(connect(), bucket)).holds("job", "last", second)


def test_a_write_whose_answer_was_lost_does_not_fence_out_its_own_writer(
    connect: Connect, s3: S3, bucket: str, tmp_path: Path
) -> None:
    first, second = checkpoint_file(tmp_path, 0), checkpoint_file(tmp_path, 1)
    once = client_config().merge(Config(retries={"total_max_attempts": 1}))

    with CuttingProxy(s3.endpoint_url, answer_to_large=SIZE, cuts=1) as proxy:
        store = CheckpointStore(Bucket(connect(proxy.endpoint_url, config=once), bucket))
        with pytest.raises(StoreUnreachable):
            store.upload(first, "job", "last", VERSION)
        assert CheckpointStore(Bucket(connect(), bucket)).holds("job", "last", first)
        store.upload(second, "job", "last", VERSION)

    assert CheckpointStore(Bucket(connect(), bucket)).holds("job", "last", second)


@both_ways
@pytest.mark.parametrize(("then", "silence"), [("hang", 1), ("trickle", 60)])
def test_an_upload_that_hangs_is_given_up_and_writes_nothing_later(
    connect: Connect,
    s3: S3,
    bucket: str,
    tmp_path: Path,
    limits: TransferLimits,
    then: Literal["hang", "trickle"],
    silence: int,
) -> None:
    first, second = checkpoint_file(tmp_path, 0), checkpoint_file(tmp_path, 1)
    CheckpointStore(Bucket(connect(), bucket)).upload(first, "job", "last", VERSION)
    deadline = Deadline(3600)

    with CuttingProxy(s3.endpoint_url, sent=2 * 1024**2, then=then) as proxy:
        impatient = client_config().merge(Config(connect_timeout=silence, read_timeout=silence))
        store = CheckpointStore(Bucket(connect(proxy.endpoint_url, config=impatient), bucket), limits)
        with ThreadPoolExecutor(1) as threads:
            upload = threads.submit(store.upload, second, "job", "last", VERSION, deadline=deadline)
            assert proxy.failing.wait(60)
            deadline.end_now()
            with pytest.raises(UploadGivenUp, match="check the network"):
                upload.result()
        proxy.heal()
        proxy.wait_for_the_failing()

    assert_only_the_first_generation_is_there(connect(), bucket, first, tmp_path)


def test_after_its_deadline_an_upload_asks_s3_for_nothing(
    connect: Connect, bucket: str, tmp_path: Path
) -> None:
    deadline = Deadline(3600)
    deadline.end_now()

    with pytest.raises(UploadGivenUp):
        CheckpointStore(Bucket(connect(), bucket)).upload(
            checkpoint_file(tmp_path, 0, size=10), "job", "last", VERSION, deadline=deadline
        )

    assert not connect().list_objects_v2(Bucket=bucket)["KeyCount"]


def test_a_download_goes_on_where_the_connection_broke(
    connect: Connect, s3: S3, bucket: str, tmp_path: Path
) -> None:
    checkpoint = checkpoint_file(tmp_path, 0)
    CheckpointStore(Bucket(connect(), bucket)).upload(checkpoint, "job", "last", VERSION)

    with CuttingProxy(s3.endpoint_url, received=5 * 1024**2 // 2) as proxy:
        store = CheckpointStore(Bucket(connect(proxy.endpoint_url), bucket))
        downloaded = store.download("job", "last", tmp_path / "got.pt")

    assert proxy.cuts == 2
    assert downloaded.sha256 == checkpoint.sha256
    assert Path(downloaded.path).read_bytes() == Path(checkpoint.path).read_bytes()


def test_a_download_that_brings_nothing_any_more_ends_and_leaves_nothing(
    connect: Connect, s3: S3, bucket: str, tmp_path: Path
) -> None:
    checkpoint = checkpoint_file(tmp_path, 0)
    CheckpointStore(Bucket(connect(), bucket)).upload(checkpoint, "job", "last", VERSION)
    folder = tmp_path / "downloads"

    with CuttingProxy(s3.endpoint_url, received=100) as proxy:
        store = CheckpointStore(Bucket(connect(proxy.endpoint_url), bucket))
        with pytest.raises(StoreUnreachable, match=proxy.endpoint_url):
            store.download("job", "last", folder / "last.pt")

    assert list(folder.iterdir()) == []


def test_an_object_that_is_replaced_during_a_download_is_not_mixed_with_the_new_one(
    connect: Connect, s3: S3, bucket: str, tmp_path: Path
) -> None:
    first, second = checkpoint_file(tmp_path, 0), checkpoint_file(tmp_path, 1)
    CheckpointStore(Bucket(connect(), bucket)).upload(first, "job", "last", VERSION)

    with CuttingProxy(s3.endpoint_url, received=4 * 1024**2, cuts=1) as proxy:
        reader = connect(proxy.endpoint_url)
        requests: list[object] = []

        def replace_before_the_second_request(**_: object) -> None:
            requests.append(None)
            if len(requests) == 2:
                CheckpointStore(Bucket(connect(), bucket)).upload(second, "job", "last", VERSION)

        reader.meta.events.register("provide-client-params.s3.GetObject", replace_before_the_second_request)
        with pytest.raises(StoreError, match="PreconditionFailed"):
            CheckpointStore(Bucket(reader, bucket)).download("job", "last", tmp_path / "got.pt")

    assert not (tmp_path / "got.pt").exists()


def test_bytes_that_were_damaged_at_rest_are_noticed_and_never_reach_the_file(
    connect: Connect, bucket: str, tmp_path: Path
) -> None:
    checkpoint = checkpoint_file(tmp_path, 0, size=100_000)
    client = connect()
    store = CheckpointStore(Bucket(client, bucket))
    store.upload(checkpoint, "job", "last", VERSION)
    metadata = client.head_object(Bucket=bucket, Key=KEY)["Metadata"]
    flip_a_byte(checkpoint.path)
    client.put_object(Bucket=bucket, Key=KEY, Body=Path(checkpoint.path).read_bytes(), Metadata=metadata)
    target = tmp_path / "there" / "last.pt"
    target.parent.mkdir()
    target.write_bytes(b"the file of before")

    with pytest.raises(CorruptObject, match=rf"s3://{bucket}/{KEY} is damaged"):
        store.download("job", "last", target)

    assert target.read_bytes() == b"the file of before"
    assert [file.name for file in target.parent.iterdir()] == ["last.pt"]


def test_a_damaged_model_to_start_from_is_noticed(connect: Connect, bucket: str, tmp_path: Path) -> None:
    client = connect()
    metadata = {"sha256": "0" * 64, "epoch": "3"}
    client.put_object(Bucket=bucket, Key="model.pt", Body=b"weights", Metadata=metadata)

    with pytest.raises(CorruptObject, match=rf"s3://{bucket}/model.pt is damaged"):
        CheckpointStore(Bucket(client, bucket)).fetch_object(f"s3://{bucket}/model.pt", tmp_path / "model.pt")


@contextmanager
def files_may_grow_to(size: int) -> Iterator[None]:
    """A disk that is full, as far as this process can tell."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_takes_no_more_is_named_and_nothing_is_left_on_it(
    connect: Connect, bucket: str, tmp_path: Path
) -> None:
    store = CheckpointStore(Bucket(connect(), bucket))
    store.upload(checkpoint_file(tmp_path, 0), "job", "last", VERSION)
    folder = tmp_path / "full"

    with files_may_grow_to(SIZE // 2), pytest.raises(LocalDiskError, match=f"{folder}/last.pt could not be"):
        store.download("job", "last", folder / "last.pt")

    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(connect: Connect, bucket: str, tmp_path: Path) -> None:
    store = CheckpointStore(Bucket(connect(), bucket))
    store.upload(checkpoint_file(tmp_path, 0, size=100), "job", "last", VERSION)
    (tmp_path / "file").touch()

    with pytest.raises(LocalDiskError, match=f"{tmp_path}/file/last.pt could not be written"):
        store.download("job", "last", tmp_path / "file" / "last.pt")


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
        ({"config": Config(signature_version=UNSIGNED)}, r"does not allow \w+ on s3://.*/last.pt; allow"),
    ],
)
def test_keys_that_do_not_open_the_bucket_are_explained(
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


def test_an_endpoint_that_is_not_there_is_named(connect: Connect, bucket: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        endpoint = f"http://127.0.0.1:{reserved.getsockname()[1]}"
    with pytest.raises(StoreUnreachable, match=rf"{endpoint} does not answer .* training_s3"):
        CheckpointStore(Bucket(connect(endpoint), bucket)).head("job", "last")


class _Answer(BaseHTTPRequestHandler):
    """Answers as AWS is documented to, in cases that no other server on this machine can produce."""

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
            self._answer(200, b'<?xml version="1.0"?><ListBucketResult></ListBucketResult>')
        else:
            self._refuse()

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._refuse()

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def _refuse(self) -> None:
        self._answer(self.status, f"<Error><Code>{self.code}</Code><Message>No.</Message></Error>".encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def aws_that_says(status: int, code: str) -> Iterator[str]:
    handler = type("Answer", (_Answer,), {"status": status, "code": code})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "code", "error", "sentence"),
    [
        (403, "RequestTimeTooSkewed", ClockSkew, r"clock differs too much .* \(NTP\)"),
        (409, "ConditionalRequestConflict", StoreError, "another write to it was in progress"),
        (400, "ExpiredToken", StoreError, "refused .*: ExpiredToken No."),
    ],
)
def test_refusals_that_only_aws_knows_are_explained(
    connect: Connect, tmp_path: Path, status: int, code: str, error: type[StoreError], sentence: str
) -> None:
    checkpoint = checkpoint_file(tmp_path, 0, size=10)

    with aws_that_says(status, code) as endpoint, pytest.raises(error, match=sentence):
        CheckpointStore(Bucket(connect(endpoint), "bucket")).upload(checkpoint, "job", "last", VERSION)


def test_only_what_a_person_must_change_is_a_refusal() -> None:
    assert not issubclass(StoreUnreachable, StoreRefusal)
    assert not issubclass(LocalDiskError, StoreRefusal)
    assert issubclass(FencedOut, StoreRefusal)
