"""Checkpoints in S3 have the right keys, are written only by the current attempt, and download unchanged."""

from __future__ import annotations

import hashlib
import logging
import re
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from include.checkpoints.checkpoint import Checkpoint
from include.checkpoints.errors import CheckpointNotFound
from include.checkpoints.store import CheckpointStore
from include.s3.bucket import Bucket
from include.s3.errors import CorruptObject, FencedOut, ForeignObject, LocalFileMissing
from include.s3.local_file import TransferLimits
from tests.checkpoints.conftest import VERSION, Make

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

IN_PARTS = TransferLimits(5 * 1024**2, 5 * 1024**2, parallel_parts=2, copied_at_once=5 * 1024**2)
LARGE = 5 * 1024**2 + 77


def body(client: S3Client, bucket: str, key: str) -> bytes:
    return client.get_object(Bucket=bucket, Key=key)["Body"].read()


def test_a_checkpoint_is_stored_under_the_name_of_its_job_with_its_identity(
    store: CheckpointStore,
    client: S3Client,
    bucket: str,
    make: Make,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    checkpoint = make(epoch=6)

    uploaded = store.upload(checkpoint, "gears-7", "last", VERSION)

    assert uploaded.was_sent
    assert re.search(r"Uploaded s3://\S+/gears-7/last.pt in \d+\.\d s, \d+\.\d MB/s: epoch 7", caplog.text)
    stored = uploaded.stored.checkpoint
    assert stored == Checkpoint(
        f"s3://{bucket}/checkpoints/gears-7/last.pt", checkpoint.sha256, checkpoint.size, 6
    )
    assert body(client, bucket, "checkpoints/gears-7/last.pt") == Path(checkpoint.path).read_bytes()
    assert client.head_object(Bucket=bucket, Key="checkpoints/gears-7/last.pt")["Metadata"] == {
        "sha256": checkpoint.sha256,
        "epoch": "6",
        "job-id": "gears-7",
        "ultralytics-version": VERSION,
    }


def test_a_stored_checkpoint_can_be_looked_up(store: CheckpointStore, make: Make) -> None:
    uploaded = store.upload(make(epoch=0), "gears-7", "best", VERSION)

    assert store.head("gears-7", "best") == uploaded.stored
    assert store.head("gears-7", "last") is None
    assert (uploaded.stored.job_id, uploaded.stored.ultralytics_version) == ("gears-7", VERSION)


def test_the_server_keeps_the_checksum_of_the_whole_file(
    store: CheckpointStore, client: S3Client, bucket: str, make: Make
) -> None:
    checkpoint = make(epoch=1)
    store.upload(checkpoint, "job", "best", VERSION)

    head = client.head_object(Bucket=bucket, Key=store.locate("job", "best").key, ChecksumMode="ENABLED")

    digest = hashlib.sha256(Path(checkpoint.path).read_bytes())
    assert checkpoint.sha256 == digest.hexdigest()
    assert head["ChecksumSHA256"] == b64encode(digest.digest()).decode()


def test_bytes_that_s3_already_has_are_not_sent_again(
    client: S3Client, bucket: str, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    checkpoint = make(epoch=3)
    CheckpointStore(Bucket(client, bucket)).upload(checkpoint, "job", "last", VERSION)

    again = CheckpointStore(Bucket(client, bucket)).upload(checkpoint, "job", "last", VERSION)

    versions = client.list_object_versions(Bucket=bucket, Prefix="checkpoints/job/")["Versions"]
    assert not again.was_sent
    assert "already holds these bytes" in caplog.text
    assert [version["Key"] for version in versions] == ["checkpoints/job/last.pt"]
    client.delete_object(Bucket=bucket, Key=versions[0]["Key"], VersionId=versions[0]["VersionId"])


def test_bytes_that_are_already_in_s3_need_no_local_file(store: CheckpointStore, make: Make) -> None:
    checkpoint = make(epoch=3)
    store.upload(checkpoint, "job", "last", VERSION)
    Path(checkpoint.path).unlink()

    assert not store.upload(checkpoint, "job", "last", VERSION).was_sent


def test_the_error_for_a_checkpoint_that_is_neither_local_nor_in_s3_says_to_clear_train(
    store: CheckpointStore, make: Make
) -> None:
    checkpoint = make(epoch=3)
    store.upload(make(epoch=2), "job", "best", VERSION)
    Path(checkpoint.path).unlink()

    with pytest.raises(
        LocalFileMissing, match=r"job/best.pt is missing or has different .* clear the task `train`"
    ):
        store.upload(checkpoint, "job", "best", VERSION)


def test_the_downloaded_bytes_are_the_uploaded_bytes(
    store: CheckpointStore, make: Make, tmp_path: Path
) -> None:
    checkpoint = make(epoch=4)
    store.upload(checkpoint, "job", "last", VERSION)

    downloaded = store.download("job", "last", tmp_path / "new" / "last.pt", expected=checkpoint)

    assert downloaded == Checkpoint(
        str(tmp_path / "new" / "last.pt"), checkpoint.sha256, checkpoint.size, checkpoint.epoch
    )
    assert Path(downloaded.path).read_bytes() == Path(checkpoint.path).read_bytes()
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["last.pt"]


def test_a_missing_checkpoint_is_named(store: CheckpointStore, bucket: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound, match=rf"s3://{bucket}/checkpoints/job/last\.pt does not exist"):
        store.download("job", "last", tmp_path / "last.pt")

    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_other_than_the_expected_one_is_refused(
    store: CheckpointStore, make: Make, tmp_path: Path
) -> None:
    store.upload(make(epoch=4), "job", "last", VERSION)

    with pytest.raises(CorruptObject, match="it was replaced in the meantime"):
        store.download("job", "last", tmp_path / "got.pt", expected=make(epoch=3))

    assert not (tmp_path / "got.pt").exists()


def test_verifying_distinguishes_right_wrong_and_missing_bytes(store: CheckpointStore, make: Make) -> None:
    right, wrong = make(epoch=4), make(epoch=5)
    with pytest.raises(CheckpointNotFound, match=r"checkpoints/job/best\.pt"):
        store.verify("job", "best", right)

    store.upload(right, "job", "best", VERSION)

    assert store.verify("job", "best", right).checkpoint is not None
    assert store.holds("job", "best", right)
    assert not store.holds("job", "best", wrong)
    with pytest.raises(CorruptObject, match=wrong.sha256):
        store.verify("job", "best", wrong)


@pytest.mark.usefixtures("reread_at_once")
def test_an_object_that_another_program_wrote_is_recognised_as_foreign(
    store: CheckpointStore, client: S3Client, bucket: str, tmp_path: Path
) -> None:
    client.put_object(
        Bucket=bucket, Key=store.locate("job", "last").key, Body=b"theirs", Metadata={"sha256": "no"}
    )

    found = store.head("job", "last")

    assert found is not None
    assert found.checkpoint is None
    with pytest.raises(
        ForeignObject, match=rf"s3://{bucket}/checkpoints/job/last\.pt was not written by this"
    ):
        store.download("job", "last", tmp_path / "last.pt")


def test_an_object_that_another_program_wrote_is_kept_when_a_training_run_replaces_it(
    store: CheckpointStore, client: S3Client, bucket: str, make: Make
) -> None:
    client.put_object(Bucket=bucket, Key=store.locate("job", "last").key, Body=b"theirs")

    store.upload(make(epoch=0), "job", "last", VERSION)

    assert body(client, bucket, "checkpoints/job/last.previous.pt") == b"theirs"


@pytest.mark.parametrize(("limits", "size"), [(TransferLimits(), 100_000), (IN_PARTS, LARGE)])
def test_the_previous_generation_is_kept_with_its_identity(
    client: S3Client, bucket: str, make: Make, limits: TransferLimits, size: int
) -> None:
    store = CheckpointStore(Bucket(client, bucket), limits)
    for epoch in range(3):
        store.upload(make(epoch, size=size), "job", "last", VERSION)

    previous = make(1, size=size)
    key = "checkpoints/job/last.previous.pt"
    assert hashlib.sha256(body(client, bucket, key)).hexdigest() == previous.sha256
    assert client.head_object(Bucket=bucket, Key=key)["Metadata"] == {
        "sha256": previous.sha256,
        "epoch": "1",
        "job-id": "job",
        "ultralytics-version": VERSION,
    }


def test_only_last_pt_has_a_previous_generation(
    store: CheckpointStore, client: S3Client, bucket: str, make: Make
) -> None:
    for epoch in range(2):
        store.upload(make(epoch), "job", "best", VERSION)

    assert [item["Key"] for item in client.list_objects_v2(Bucket=bucket)["Contents"]] == [
        "checkpoints/job/best.pt"
    ]


def test_a_large_file_is_uploaded_in_parts_and_downloaded_whole(
    client: S3Client, bucket: str, make: Make, tmp_path: Path
) -> None:
    store = CheckpointStore(Bucket(client, bucket), IN_PARTS)
    checkpoint = make(epoch=9, size=LARGE)

    store.upload(checkpoint, "job", "last", VERSION)

    head = client.head_object(Bucket=bucket, Key=store.locate("job", "last").key, ChecksumMode="ENABLED")
    assert head["ChecksumSHA256"].endswith("-2")
    assert store.download("job", "last", tmp_path / "got.pt").sha256 == checkpoint.sha256
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)


@pytest.mark.parametrize(("limits", "size"), [(TransferLimits(), 100_000), (IN_PARTS, LARGE)])
def test_an_attempt_that_was_overtaken_is_refused_and_changes_nothing(
    client: S3Client, bucket: str, make: Make, limits: TransferLimits, size: int
) -> None:
    older, newer = (CheckpointStore(Bucket(client, bucket), limits) for _ in range(2))
    older.upload(make(0, size=size), "job", "last", VERSION)
    theirs = newer.upload(make(1, size=size), "job", "last", VERSION)

    with pytest.raises(FencedOut, match=r"changed by another attempt .*now: epoch 2"):
        older.upload(make(2, size=size), "job", "last", VERSION)

    assert newer.head("job", "last") == theirs.stored
    assert (
        client.head_object(Bucket=bucket, Key="checkpoints/job/last.previous.pt")["Metadata"]["epoch"] == "0"
    )
    newer.upload(make(3, size=size), "job", "last", VERSION)


def test_an_attempt_whose_objects_were_deleted_is_refused(
    store: CheckpointStore, client: S3Client, bucket: str, make: Make
) -> None:
    store.upload(make(epoch=0), "job", "last", VERSION)
    client.delete_object(Bucket=bucket, Key=store.locate("job", "last").key)

    with pytest.raises(FencedOut, match="has been deleted since this attempt last saw it"):
        store.upload(make(epoch=1), "job", "last", VERSION)

    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


# With a single PUT only: SeaweedFS does not check the condition atomically when it completes a
# multipart upload.
@pytest.mark.parametrize("first_write", [True, False])
def test_exactly_one_of_many_concurrent_attempts_wins(
    client: S3Client, bucket: str, make: Make, first_write: bool
) -> None:
    if not first_write:
        CheckpointStore(Bucket(client, bucket)).upload(make(100, 300_000), "job", "last", VERSION)
    attempts = [CheckpointStore(Bucket(client, bucket)) for _ in range(4)]
    files = [make(epoch, 300_000) for epoch in range(4)]
    for attempt in attempts:
        attempt.head("job", "last")

    def write(number: int) -> int | None:
        try:
            attempts[number].upload(files[number], "job", "last", VERSION)
        except FencedOut:
            return None
        return number

    with ThreadPoolExecutor(4) as threads:
        winners = [number for number in threads.map(write, range(4)) if number is not None]

    assert len(winners) == 1
    assert hashlib.sha256(body(client, bucket, "checkpoints/job/last.pt")).hexdigest() == (
        files[winners[0]].sha256
    )


def test_two_tasks_can_upload_best_and_last_of_a_job_simultaneously(
    client: S3Client, bucket: str, make: Make
) -> None:
    files = {"best": make(1, size=LARGE), "last": make(2, size=LARGE)}
    stores = {kind: CheckpointStore(Bucket(client, bucket)) for kind in files}

    with ThreadPoolExecutor(2) as threads:
        best = threads.submit(stores["best"].upload, files["best"], "job", "best", VERSION)
        last = threads.submit(stores["last"].upload, files["last"], "job", "last", VERSION)

    assert best.result().stored.is_the_same_as(files["best"])
    assert last.result().stored.is_the_same_as(files["last"])


@pytest.mark.parametrize("job_id", ["a", "7", "A.b_c-d", "x" * 128])
def test_job_ids_up_to_the_limits_are_accepted(
    store: CheckpointStore, make: Make, job_id: str, tmp_path: Path
) -> None:
    checkpoint = make(epoch=0)

    stored = store.upload(checkpoint, job_id, "last", VERSION).stored

    assert stored.job_id == job_id
    assert stored.uri.endswith(f"/checkpoints/{job_id}/last.pt")
    assert store.download(job_id, "last", tmp_path / "got.pt").sha256 == checkpoint.sha256


@pytest.mark.parametrize("job_id", ["", "..", "../other", "a/b", "x" * 129, "기어", "a\n", "-a"])
def test_job_ids_that_could_form_another_key_are_refused(store: CheckpointStore, job_id: str) -> None:
    with pytest.raises(ValueError, match="cannot name a checkpoint"):
        store.build_uri(job_id, "best")


def test_a_client_with_the_defaults_of_boto3_also_works(
    s3_client: S3Client, bucket: str, make: Make, tmp_path: Path
) -> None:
    store = CheckpointStore(Bucket(s3_client, bucket), IN_PARTS)
    small, large = make(epoch=0), make(epoch=1, size=LARGE)

    store.upload(small, "job", "last", VERSION)
    store.upload(large, "job", "last", VERSION)

    assert store.download("job", "last", tmp_path / "got.pt").sha256 == large.sha256
