"""Ownership: a new attempt takes over its job's checkpoints, and a new job begins with its parent's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from include.checkpoints.checkpoint import Checkpoint, CheckpointKind
from include.checkpoints.errors import CheckpointNotFound
from include.checkpoints.store import CheckpointStore
from include.s3.bucket import Bucket
from include.s3.errors import CorruptObject, FencedOut, StoreError
from include.s3.local_file import TransferLimits
from tests.checkpoints.conftest import Make

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

VERSION = "8.4.190"
IN_PARTS = TransferLimits(5 * 1024**2, 5 * 1024**2, parallel_parts=2, copied_at_once=5 * 1024**2)

OpenStore = Callable[..., CheckpointStore]


@pytest.fixture
def open_store(s3_client: S3Client, bucket: str) -> OpenStore:
    """Return a function that opens the store of another attempt."""

    def open_store(run_id: str = "run", limits: TransferLimits | None = None) -> CheckpointStore:
        return CheckpointStore(Bucket(s3_client, bucket), limits, run_id)

    return open_store


def taken_over(open_store: OpenStore, make: Make) -> tuple[CheckpointStore, CheckpointStore]:
    """Return an older attempt that stored best and last of epoch 1, and a newer one that took over."""
    older = open_store()
    older.upload(make(1, "-best"), "job", "best", VERSION)
    older.upload(make(1), "job", "last", VERSION)
    newer = open_store()
    newer.upload(make(1, "-newer"), "job", "last", VERSION)
    return older, newer


@pytest.mark.parametrize("kind", ["best", "last"])
def test_after_a_takeover_the_older_attempt_can_write_neither_file(
    open_store: OpenStore, make: Make, kind: CheckpointKind
) -> None:
    older, newer = taken_over(open_store, make)

    with pytest.raises(FencedOut, match=r"last\.pt has been changed by another attempt .*now: epoch 2"):
        older.upload(make(2), "job", kind, VERSION)

    assert newer.holds("job", "best", make(1, "-best"))
    assert newer.holds("job", "last", make(1, "-newer"))


def test_a_best_written_by_the_older_attempt_during_a_takeover_does_not_fence_out_the_newer_attempt(
    s3_client: S3Client, bucket: str, open_store: OpenStore, make: Make
) -> None:
    older, newer = open_store(), open_store()
    older.upload(make(1), "job", "last", VERSION)
    newer.head("job", "best")
    newer.head("job", "last")

    def take_over(**_: object) -> None:
        """Take the job over between the older attempt's check of last.pt and its write of best.pt."""
        s3_client.meta.events.unregister("before-send.s3.PutObject", take_over)
        newer.upload(make(1, "-newer"), "job", "last", VERSION)

    s3_client.meta.events.register("before-send.s3.PutObject", take_over)
    older.upload(make(2, "-older"), "job", "best", VERSION)
    assert newer.holds("job", "best", make(2, "-older"))

    newer.upload(make(2, "-best"), "job", "best", VERSION)
    newer.upload(make(2), "job", "last", VERSION)

    assert newer.holds("job", "best", make(2, "-best"))
    with pytest.raises(FencedOut):
        older.upload(make(3), "job", "best", VERSION)


def test_a_late_best_of_the_older_attempt_is_replaced_by_the_newer_attempt(
    s3_client: S3Client, bucket: str, open_store: OpenStore, make: Make
) -> None:
    _, newer = taken_over(open_store, make)

    def older_write_arrives(**_: object) -> None:
        s3_client.meta.events.unregister("before-send.s3.PutObject", older_write_arrives)
        s3_client.put_object(Bucket=bucket, Key="checkpoints/job/best.pt", Body=b"late")

    s3_client.meta.events.register("before-send.s3.PutObject", older_write_arrives)
    newer.upload(make(2, "-best"), "job", "best", VERSION)

    assert newer.holds("job", "best", make(2, "-best"))


def test_uploading_the_same_bytes_does_not_take_over_the_job(open_store: OpenStore, make: Make) -> None:
    older = open_store()
    older.upload(make(1), "job", "last", VERSION)

    assert not open_store().upload(make(1), "job", "last", VERSION).was_sent

    assert older.upload(make(2), "job", "last", VERSION).was_sent


def test_a_takeover_that_lost_a_race_can_be_repeated_with_a_new_store(
    open_store: OpenStore, make: Make
) -> None:
    older, newer = open_store(), open_store()
    older.upload(make(1), "job", "last", VERSION)
    newer.head("job", "last")
    older.upload(make(2), "job", "last", VERSION)

    with pytest.raises(FencedOut):
        newer.upload(make(1, "-newer"), "job", "last", VERSION)
    open_store().upload(make(2, "-newer"), "job", "last", VERSION)

    with pytest.raises(FencedOut):
        older.upload(make(3), "job", "last", VERSION)


def test_the_previous_generation_can_be_fetched(open_store: OpenStore, make: Make, tmp_path: Path) -> None:
    store = open_store()
    for epoch in range(2):
        store.upload(make(epoch), "job", "last", VERSION)

    found = store.head("job", "last.previous")
    assert found is not None
    assert found.run_id == "run"
    assert store.download("job", "last.previous", tmp_path / "got.pt").sha256 == make(0).sha256


@pytest.mark.usefixtures("reread_at_once")
def test_a_damaged_last_does_not_replace_the_previous_generation(
    s3_client: S3Client, bucket: str, open_store: OpenStore, make: Make, tmp_path: Path
) -> None:
    store = open_store()
    for epoch in range(2):
        store.upload(make(epoch), "job", "last", VERSION)
    key = store.locate("job", "last").key
    metadata = s3_client.head_object(Bucket=bucket, Key=key)["Metadata"]
    s3_client.put_object(Bucket=bucket, Key=key, Body=b"damaged", Metadata=metadata)
    newer = open_store()
    with pytest.raises(CorruptObject):
        newer.download("job", "last", tmp_path / "last.pt")

    newer.upload(make(0, "-newer"), "job", "last", VERSION, keep_previous=False)

    assert newer.holds("job", "last", make(0, "-newer"))
    assert newer.download("job", "last.previous", tmp_path / "got.pt").sha256 == make(0).sha256


@pytest.mark.parametrize(("limits", "size"), [(None, 10_000), (IN_PARTS, 5 * 1024**2 + 77)])
@pytest.mark.parametrize("kind", ["best", "last"])
def test_a_job_is_seeded_with_its_parents_checkpoint_under_its_own_name(
    s3_client: S3Client,
    bucket: str,
    open_store: OpenStore,
    make: Make,
    tmp_path: Path,
    kind: CheckpointKind,
    limits: TransferLimits | None,
    size: int,
) -> None:
    checkpoint = make(4, size=size)
    parents = open_store("parent's run", limits).upload(checkpoint, "parent", kind, VERSION).stored
    store = open_store("own run", limits)

    seeded = store.seed("parent", "job", kind, checkpoint)

    assert (seeded.job_id, seeded.run_id, seeded.ultralytics_version) == ("job", "own run", VERSION)
    assert seeded.checkpoint == Checkpoint(
        f"s3://{bucket}/checkpoints/job/{kind}.pt", checkpoint.sha256, checkpoint.size, 4
    )
    assert store.download("job", kind, tmp_path / "got.pt").sha256 == checkpoint.sha256
    assert store.head("parent", kind) == parents
    assert len(s3_client.list_objects_v2(Bucket=bucket)["Contents"]) == 2


def test_a_seeded_job_continues_with_its_own_states(open_store: OpenStore, make: Make) -> None:
    open_store("parent's run").upload(make(4), "parent", "last", VERSION)
    store = open_store("own run")
    store.seed("parent", "job", "last", make(4))

    store.upload(make(5), "job", "last", VERSION)

    assert store.holds("job", "last", make(5))
    assert store.holds("parent", "last", make(4))


def test_seeding_again_keeps_states_that_the_run_has_stored_since(open_store: OpenStore, make: Make) -> None:
    open_store("parent's run").upload(make(4), "parent", "last", VERSION)
    first = open_store("own run")
    first.seed("parent", "job", "last", make(4))
    first.upload(make(5), "job", "last", VERSION)

    again = open_store("own run").seed("parent", "job", "last", make(4))

    assert again.is_the_same_as(make(5))


def test_seeding_keeps_the_state_of_an_earlier_run_with_the_same_job_id_as_the_previous_generation(
    open_store: OpenStore, make: Make
) -> None:
    open_store("parent's run").upload(make(4), "parent", "last", VERSION)
    open_store("earlier run").upload(make(9), "job", "last", VERSION)
    store = open_store("own run")

    assert store.seed("parent", "job", "last", make(4)).is_the_same_as(make(4))

    previous = store.head("job", "last.previous")
    assert previous is not None
    assert (previous.run_id, previous.is_the_same_as(make(9))) == ("earlier run", True)


def test_a_parent_that_was_replaced_seeds_nothing(open_store: OpenStore, make: Make) -> None:
    parent, store = open_store("parent's run"), open_store("own run")
    parent.upload(make(5), "parent", "last", VERSION)

    with pytest.raises(CorruptObject, match=make(4).sha256):
        store.seed("parent", "job", "last", make(4))

    assert store.head("job", "last") is None


def test_a_parent_that_is_replaced_during_the_copy_seeds_nothing(
    s3_client: S3Client, open_store: OpenStore, make: Make
) -> None:
    parent, store = open_store("parent's run"), open_store("own run")
    parent.upload(make(4), "parent", "last", VERSION)

    def replace(**_: object) -> None:
        s3_client.meta.events.unregister("before-send.s3.CopyObject", replace)
        parent.upload(make(5), "parent", "last", VERSION)

    s3_client.meta.events.register("before-send.s3.CopyObject", replace)
    with pytest.raises(CorruptObject, match="it was replaced in the meantime"):
        store.seed("parent", "job", "last", make(4))

    assert store.head("job", "last") is None


def test_a_parent_without_a_checkpoint_is_named(open_store: OpenStore, make: Make) -> None:
    with pytest.raises(CheckpointNotFound, match=r"checkpoints/parent/last\.pt"):
        open_store().seed("parent", "job", "last", make(4))


def test_a_superseded_attempt_does_not_seed(open_store: OpenStore, make: Make) -> None:
    open_store("parent's run").upload(make(4), "parent", "last", VERSION)
    older = open_store("own run")
    older.head("job", "last")
    open_store("another run").upload(make(9), "job", "last", VERSION)

    with pytest.raises(FencedOut):
        older.seed("parent", "job", "last", make(4))


@pytest.mark.parametrize("limits", [None, IN_PARTS], ids=["whole", "in parts"])
def test_the_late_seed_of_a_stalled_attempt_does_not_overwrite_a_newer_attempts_state(
    s3_client: S3Client, open_store: OpenStore, make: Make, limits: TransferLimits | None
) -> None:
    size = 5 * 1024**2 + 77 if limits else 10_000
    open_store("parent's run", limits).upload(make(4, size=size), "parent", "last", VERSION)
    operation = "CompleteMultipartUpload" if limits else "CopyObject"
    newer = open_store("own run")

    def overtake(**_: object) -> None:
        s3_client.meta.events.unregister(f"before-send.s3.{operation}", overtake)
        newer.seed("parent", "job", "last", make(4, size=size))
        newer.upload(make(5), "job", "last", VERSION)
        newer.upload(make(6), "job", "last", VERSION)

    s3_client.meta.events.register(f"before-send.s3.{operation}", overtake)
    with pytest.raises(FencedOut, match="now: epoch 7"):
        open_store("own run", limits).seed("parent", "job", "last", make(4, size=size))

    assert newer.holds("job", "last", make(6))


def test_a_seed_whose_response_was_lost_is_recognised(
    s3_client: S3Client, bucket: str, open_store: OpenStore, make: Make
) -> None:
    open_store("parent's run").upload(make(4), "parent", "last", VERSION)
    store = open_store("own run")

    def succeed_unnoticed(**_: object) -> None:
        """Copy the checkpoint, as the first request did whose response was lost."""
        s3_client.meta.events.unregister("before-send.s3.CopyObject", succeed_unnoticed)
        open_store("own run").seed("parent", "job", "last", make(4))

    s3_client.meta.events.register("before-send.s3.CopyObject", succeed_unnoticed)
    store.seed("parent", "job", "last", make(4))

    assert store.upload(make(5), "job", "last", VERSION).was_sent


def test_the_late_copy_of_a_stalled_attempt_does_not_replace_a_newer_previous_generation(
    s3_client: S3Client, bucket: str, open_store: OpenStore, make: Make
) -> None:
    older = open_store()
    for epoch in (0, 1):
        older.upload(make(epoch), "job", "last", VERSION)
    previous = "checkpoints/job/last.previous.pt"

    def write_meanwhile(**_: object) -> None:
        s3_client.meta.events.unregister("before-send.s3.CopyObject", write_meanwhile)
        s3_client.put_object(Bucket=bucket, Key=previous, Body=b"newer", Metadata={"epoch": "9"})

    s3_client.meta.events.register("before-send.s3.CopyObject", write_meanwhile)
    with pytest.raises(StoreError, match="try again"):
        older.upload(make(2), "job", "last", VERSION)

    assert s3_client.get_object(Bucket=bucket, Key=previous)["Body"].read() == b"newer"
    older.upload(make(2), "job", "last", VERSION)
    assert older.holds("job", "last", make(2))
