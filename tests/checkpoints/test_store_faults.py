"""If a file, the network or a disk fails, the store leaves no partial object and no partial file."""

from __future__ import annotations

import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from botocore.config import Config

from include.checkpoints.checkpoint import Checkpoint
from include.checkpoints.store import CheckpointStore
from include.s3.bucket import Bucket
from include.s3.client import build_client_config
from include.s3.deadline import Deadline
from include.s3.errors import (
    CorruptObject,
    LocalDiskError,
    LocalFileChanged,
    StoreError,
    StoreUnavailable,
    StoreUnreachable,
    UploadGivenUp,
)
from include.s3.local_file import TransferLimits
from tests.checkpoints.conftest import SIZE, VERSION, Connect, checkpoint_file
from tests.support.cutting_proxy import CuttingProxy
from tests.support.soft_limit import soft_limit

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.stack.s3 import S3

KEY = "checkpoints/job/last.pt"
WHOLE = TransferLimits()
IN_PARTS = TransferLimits(5 * 1024**2, 5 * 1024**2, parallel_parts=2, copied_at_once=5 * 1024**2)

both_ways = pytest.mark.parametrize("limits", [WHOLE, IN_PARTS], ids=["whole", "in parts"])


def flip_a_byte(path: str | Path) -> None:
    with Path(path).open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))


def assert_only_the_first_generation_is_there(
    client: S3Client, bucket: str, first: Checkpoint, tmp_path: Path
) -> None:
    """Assert that the object is complete and unchanged, and that no parts of another upload are left."""
    stored = CheckpointStore(Bucket(client, bucket)).download("job", "last", tmp_path / "there.pt")
    assert stored.sha256 == first.sha256
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)


def test_a_file_that_changed_after_training_is_not_stored(
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

    # Both events occur after the file was hashed, and before any of its bytes are read for sending.
    client.meta.events.register("provide-client-params.s3.PutObject", damage)
    client.meta.events.register("provide-client-params.s3.CreateMultipartUpload", damage)
    with pytest.raises(LocalFileChanged, match=second.sha256):
        store.upload(second, "job", "last", VERSION)

    assert_only_the_first_generation_is_there(connect(), bucket, first, tmp_path)


@both_ways
def test_a_file_that_is_damaged_in_transit_is_not_stored_and_can_be_sent_again(
    connect: Connect, s3: S3, bucket: str, tmp_path: Path, limits: TransferLimits
) -> None:
    first, second = checkpoint_file(tmp_path, 0), checkpoint_file(tmp_path, 1)
    CheckpointStore(Bucket(connect(), bucket)).upload(first, "job", "last", VERSION)

    with CuttingProxy(s3.endpoint_url, sent=SIZE // 2, cuts=1, then="flip") as proxy:
        store = CheckpointStore(Bucket(connect(proxy.endpoint_url), bucket), limits)
        with pytest.raises(StoreUnavailable, match="received different bytes"):
            store.upload(second, "job", "last", VERSION)
        assert_only_the_first_generation_is_there(connect(), bucket, first, tmp_path)
        store.upload(second, "job", "last", VERSION)

    assert proxy.cuts == 1
    assert CheckpointStore(Bucket(connect(), bucket)).holds("job", "last", second)


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


# Without a checksum, SeaweedFS would store an empty object if only the headers arrived.
@pytest.mark.parametrize("sent", [4096, 1024**2], ids=["the headers", "a part"])
@both_ways
def test_an_upload_that_always_breaks_leaves_the_object_unchanged(
    connect: Connect, s3: S3, bucket: str, tmp_path: Path, limits: TransferLimits, sent: int
) -> None:
    first, second = checkpoint_file(tmp_path, 0), checkpoint_file(tmp_path, 1)
    CheckpointStore(Bucket(connect(), bucket)).upload(first, "job", "last", VERSION)

    with CuttingProxy(s3.endpoint_url, sent=sent) as proxy:
        store = CheckpointStore(Bucket(connect(proxy.endpoint_url), bucket), limits)
        with pytest.raises(StoreUnreachable, match=proxy.endpoint_url):
            store.upload(second, "job", "last", VERSION)

    assert proxy.cuts > 0
    assert_only_the_first_generation_is_there(connect(), bucket, first, tmp_path)


def test_a_write_whose_response_was_lost_is_recognised_as_our_own(
    connect: Connect, s3: S3, bucket: str, tmp_path: Path
) -> None:
    first, second = checkpoint_file(tmp_path, 0), checkpoint_file(tmp_path, 1)

    with CuttingProxy(s3.endpoint_url, answer_to_large=SIZE, cuts=1) as proxy:
        store = CheckpointStore(Bucket(connect(proxy.endpoint_url), bucket))
        uploaded = store.upload(first, "job", "last", VERSION)
        store.upload(second, "job", "last", VERSION)

    assert proxy.cuts == 1
    assert uploaded.was_sent
    assert CheckpointStore(Bucket(connect(), bucket)).holds("job", "last", second)


def test_a_write_whose_response_was_lost_does_not_fence_out_its_own_writer(
    connect: Connect, s3: S3, bucket: str, tmp_path: Path
) -> None:
    first, second = checkpoint_file(tmp_path, 0), checkpoint_file(tmp_path, 1)
    once = build_client_config().merge(Config(retries={"total_max_attempts": 1}))

    with CuttingProxy(s3.endpoint_url, answer_to_large=SIZE, cuts=1) as proxy:
        store = CheckpointStore(Bucket(connect(proxy.endpoint_url, config=once), bucket))
        with pytest.raises(StoreUnreachable):
            store.upload(first, "job", "last", VERSION)
        assert CheckpointStore(Bucket(connect(), bucket)).holds("job", "last", first)
        store.upload(second, "job", "last", VERSION)

    assert CheckpointStore(Bucket(connect(), bucket)).holds("job", "last", second)


@both_ways
@pytest.mark.parametrize(("then", "silence"), [("hang", 5), ("trickle", 60)])
def test_a_hanging_upload_is_abandoned_and_writes_nothing_later(
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
        short_timeouts = build_client_config().merge(Config(connect_timeout=silence, read_timeout=silence))
        store = CheckpointStore(Bucket(connect(proxy.endpoint_url, config=short_timeouts), bucket), limits)
        with ThreadPoolExecutor(1) as threads:
            upload = threads.submit(store.upload, second, "job", "last", VERSION, deadline=deadline)
            assert proxy.failing.wait(60)
            deadline.end_now()
            with pytest.raises(UploadGivenUp, match="check the network"):
                upload.result()
        proxy.heal()
        proxy.wait_for_the_failing()

    assert_only_the_first_generation_is_there(connect(), bucket, first, tmp_path)


def test_after_its_deadline_an_upload_sends_nothing_to_s3(
    connect: Connect, bucket: str, tmp_path: Path
) -> None:
    deadline = Deadline(3600)
    deadline.end_now()

    with pytest.raises(UploadGivenUp):
        CheckpointStore(Bucket(connect(), bucket)).upload(
            checkpoint_file(tmp_path, 0, size=10), "job", "last", VERSION, deadline=deadline
        )

    assert not connect().list_objects_v2(Bucket=bucket)["KeyCount"]


def test_a_download_continues_where_the_connection_broke(
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


def test_a_download_without_progress_ends_and_leaves_nothing(
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


def test_an_object_replaced_during_a_download_is_not_mixed_with_the_new_object(
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


@pytest.mark.usefixtures("reread_at_once")
def test_bytes_damaged_at_rest_are_detected_and_never_reach_the_file(
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


@pytest.mark.usefixtures("reread_at_once")
def test_damaged_initial_weights_are_detected(connect: Connect, bucket: str, tmp_path: Path) -> None:
    client = connect()
    metadata = {"sha256": "0" * 64, "epoch": "3"}
    client.put_object(Bucket=bucket, Key="model.pt", Body=b"weights", Metadata=metadata)

    with pytest.raises(CorruptObject, match=rf"s3://{bucket}/model.pt is damaged"):
        CheckpointStore(Bucket(client, bucket)).fetch_object(f"s3://{bucket}/model.pt", tmp_path / "model.pt")


def test_a_full_disk_is_named_and_nothing_is_left_on_it(
    connect: Connect, bucket: str, tmp_path: Path
) -> None:
    store = CheckpointStore(Bucket(connect(), bucket))
    store.upload(checkpoint_file(tmp_path, 0), "job", "last", VERSION)
    folder = tmp_path / "full"

    refusal = pytest.raises(LocalDiskError, match=f"{folder}/last.pt could not be")
    with soft_limit(resource.RLIMIT_FSIZE, SIZE // 2), refusal:
        store.download("job", "last", folder / "last.pt")

    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_created_is_named(connect: Connect, bucket: str, tmp_path: Path) -> None:
    store = CheckpointStore(Bucket(connect(), bucket))
    store.upload(checkpoint_file(tmp_path, 0, size=100), "job", "last", VERSION)
    (tmp_path / "file").touch()

    with pytest.raises(LocalDiskError, match=f"{tmp_path}/file/last.pt could not be written"):
        store.download("job", "last", tmp_path / "file" / "last.pt")
