"""Snapshots become durable in the background; the newest one wins, and training never waits for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from include.checkpoints.checkpoint import Checkpoint
from include.checkpoints.publisher import BackgroundPublisher
from include.checkpoints.snapshot import PublishLimits, Snapshot
from include.checkpoints.store import CheckpointStore
from include.s3.bucket import Bucket
from include.s3.errors import FencedOut
from include.stack import ports
from tests.support.waiting import until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

QUICK = PublishLimits(first_pause=0.05, longest_pause=0.2)

MakeSnapshot = Callable[..., Snapshot]


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """Return the folder of the publisher's files."""
    folder = tmp_path / "weights"
    folder.mkdir()
    return folder


@pytest.fixture
def snapshot(copies: Path) -> MakeSnapshot:
    def make_snapshot(epoch: int, is_best: bool = False) -> Snapshot:
        path = copies / f"last-{epoch}.pt"
        path.write_bytes(b"state of epoch %d" % epoch)
        best = copies / f"best-{epoch}.pt" if is_best else None
        if best:
            best.write_bytes(b"weights of epoch %d" % epoch)
        return Snapshot(epoch, path, best)

    return make_snapshot


class Durable(Queue[int]):
    """A queue of the epochs that the publisher has reported as durable."""

    def __call__(self, epoch: int, batch: int) -> None:
        self.put(epoch)

    def wait_for(self, epoch: int) -> None:
        while self.get(timeout=60) != epoch:
            pass


@pytest.fixture
def durable() -> Durable:
    return Durable()


def publisher_of(
    store: CheckpointStore, durable: Callable[[int, int], None], limits: PublishLimits = QUICK, **options: Any
) -> BackgroundPublisher:
    return BackgroundPublisher(store, "job", "8.4", durable, limits, **options)


class Gate:
    """Holds uploads back until the test opens the gate."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, **_: object) -> None:
        self.reached.set()
        self.opened.wait(60)


@pytest.fixture
def gate(client: S3Client) -> Iterator[Gate]:
    gate = Gate()
    client.meta.events.register("before-send.s3.PutObject", gate)
    yield gate
    gate.opened.set()
    client.meta.events.unregister("before-send.s3.PutObject", gate)


@pytest.fixture
def written(client: S3Client) -> Iterator[list[tuple[str, bytes]]]:
    """Yield the name and bytes of each object that is written, in order."""
    objects: list[tuple[str, bytes]] = []

    def note(request: Any, **_: object) -> None:
        objects.append((Path(request.url).name, request.body.read()))
        request.body.seek(0)

    client.meta.events.register("before-send.s3.PutObject", note)
    yield objects
    client.meta.events.unregister("before-send.s3.PutObject", note)


def body(client: S3Client, bucket: str, name: str = "last.pt") -> bytes:
    return client.get_object(Bucket=bucket, Key=f"checkpoints/job/{name}")["Body"].read()


def nobody() -> CheckpointStore:
    """Return a store whose server does not exist."""
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{ports.choose()}",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}),
    )
    return CheckpointStore(Bucket(client, "bucket"))


def test_the_newest_snapshot_is_durable_and_no_copy_is_left(
    store: CheckpointStore,
    client: S3Client,
    bucket: str,
    snapshot: MakeSnapshot,
    copies: Path,
    durable: Durable,
) -> None:
    with publisher_of(store, durable) as publisher:
        for epoch in range(5):
            publisher.publish(snapshot(epoch, is_best=True))

    stored = store.head("job", "last")
    assert stored is not None
    assert stored.checkpoint is not None
    assert (stored.checkpoint.epoch, 0) == publisher.durable == (4, 0)
    assert body(client, bucket) == b"state of epoch 4"
    assert body(client, bucket, "best.pt") == b"weights of epoch 4"
    assert list(copies.iterdir()) == []


def test_best_is_written_before_the_last_that_refers_to_it(
    store: CheckpointStore, snapshot: MakeSnapshot, written: list[tuple[str, bytes]], durable: Durable
) -> None:
    with publisher_of(store, durable) as publisher:
        publisher.publish(snapshot(0, is_best=True))

    assert written == [("best.pt", b"weights of epoch 0"), ("last.pt", b"state of epoch 0")]


def test_the_newest_best_is_written_although_newer_states_replaced_its_snapshot(
    store: CheckpointStore,
    snapshot: MakeSnapshot,
    copies: Path,
    gate: Gate,
    written: list[tuple[str, bytes]],
    durable: Durable,
) -> None:
    with publisher_of(store, durable) as publisher:
        publisher.publish(snapshot(0))
        assert gate.reached.wait(60)
        publisher.publish(snapshot(1, is_best=True))
        publisher.publish(snapshot(2, is_best=True))
        publisher.publish(snapshot(3))
        publisher.publish(snapshot(4))
        held = {file.name for file in copies.iterdir()}
        gate.opened.set()

    assert held == {"last-0.pt", "best-2.pt", "last-4.pt"}
    assert written == [
        ("last.pt", b"state of epoch 0"),
        ("best.pt", b"weights of epoch 2"),
        ("last.pt", b"state of epoch 4"),
    ]
    assert list(copies.iterdir()) == []


def test_every_nth_epoch_is_stored_and_also_the_newest_at_the_end(
    store: CheckpointStore, snapshot: MakeSnapshot, written: list[tuple[str, bytes]], durable: Durable
) -> None:
    with publisher_of(store, durable, PublishLimits(every_epochs=3)) as publisher:
        for epoch in range(3):
            publisher.publish(snapshot(epoch, is_best=epoch == 1))
        durable.wait_for(2)
        publisher.publish(snapshot(3))

    assert written == [
        ("best.pt", b"weights of epoch 1"),
        ("last.pt", b"state of epoch 2"),
        ("last.pt", b"state of epoch 3"),
    ]


def test_a_state_within_an_epoch_is_stored_with_its_batch_regardless_of_every_epochs(
    store: CheckpointStore, snapshot: MakeSnapshot, durable: Durable
) -> None:
    with publisher_of(store, durable, PublishLimits(every_epochs=10)) as publisher:
        publisher.publish(replace(snapshot(0), batch=7))
        durable.wait_for(0)
        assert publisher.durable == (0, 7)
        stored = store.head("job", "last")
        assert stored is not None
        assert stored.checkpoint is not None
        assert stored.checkpoint.position == (0, 7)
        assert str(stored).startswith("batch 7 of epoch 2, SHA-256")


def test_a_snapshot_whose_file_was_removed_does_not_block_later_snapshots(
    store: CheckpointStore,
    snapshot: MakeSnapshot,
    written: list[tuple[str, bytes]],
    durable: Durable,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with publisher_of(store, durable, PublishLimits(first_pause=3600)) as publisher:
        removed = snapshot(0)
        removed.last.unlink()
        publisher.publish(removed)
        until(lambda: "last-0.pt is gone" in caplog.text, "a warning", pause=0.02)
        publisher.publish(snapshot(1))
        durable.wait_for(1)
    assert written == [("last.pt", b"state of epoch 1")]


def test_a_copy_that_cannot_be_deleted_does_not_stop_the_publisher(
    store: CheckpointStore, snapshot: MakeSnapshot, durable: Durable
) -> None:
    first = snapshot(0)
    with first.last.open("rb") as file, publisher_of(store, durable) as publisher:
        # Not even root can delete such a link, but it can be read like the file itself.
        publisher.publish(replace(first, last=Path(f"/proc/self/fd/{file.fileno()}")))
        durable.wait_for(0)
        publisher.publish(snapshot(1))
    assert publisher.durable == (1, 0)


def test_a_copy_that_cannot_be_examined_does_not_stop_the_publisher(
    store: CheckpointStore,
    snapshot: MakeSnapshot,
    copies: Path,
    durable: Durable,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with publisher_of(store, durable) as publisher:
        publisher.publish(Snapshot(0, copies / ("x" * 300)))  # the name is too long for any system call
        until(lambda: "The state after epoch 1 is not in S3 yet" in caplog.text, "a warning", pause=0.02)
        publisher.publish(snapshot(1))
    assert publisher.durable == (1, 0)


def test_a_snapshot_is_stored_although_training_fails(
    store: CheckpointStore, client: S3Client, bucket: str, snapshot: MakeSnapshot, durable: Durable
) -> None:
    def train() -> None:
        with publisher_of(store, durable) as publisher:
            publisher.publish(snapshot(2))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    assert body(client, bucket) == b"state of epoch 2"


def test_a_failing_callback_does_not_stop_the_publisher(
    store: CheckpointStore,
    client: S3Client,
    bucket: str,
    snapshot: MakeSnapshot,
    durable: Durable,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(epoch: int, batch: int) -> None:
        durable(epoch, batch)
        raise ConnectionError("database")

    with publisher_of(store, fails) as publisher:
        publisher.publish(snapshot(0))
        durable.wait_for(0)
        publisher.publish(snapshot(1))

    assert body(client, bucket) == b"state of epoch 1"
    assert "The state after epoch 1 is in S3, but this could not be recorded in the job's row" in caplog.text


def test_a_server_that_is_gone_does_not_stop_training(
    snapshot: MakeSnapshot, copies: Path, durable: Durable, caplog: pytest.LogCaptureFixture
) -> None:
    with publisher_of(nobody(), durable, drain_seconds=1) as publisher:
        publisher.publish(snapshot(0, is_best=True))
        publisher.publish(snapshot(1))
        until(lambda: "does not respond" in caplog.text, "a warning", pause=0.02)

    assert "The state after epoch 2 is not in S3: its upload did not finish in time" in caplog.text
    assert publisher.durable is None
    assert list(copies.iterdir()) == []


def test_a_failing_run_waits_for_a_missing_server_only_for_the_grace_time(
    snapshot: MakeSnapshot, copies: Path, durable: Durable
) -> None:
    def train() -> None:
        with publisher_of(nobody(), durable, drain_seconds=3600, grace_seconds=1) as publisher:
            publisher.publish(snapshot(0))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    assert list(copies.iterdir()) == []


def test_a_superseded_attempt_stops_and_overwrites_nothing(
    client: S3Client, bucket: str, snapshot: MakeSnapshot, copies: Path, durable: Durable
) -> None:
    older, newer = CheckpointStore(Bucket(client, bucket)), CheckpointStore(Bucket(client, bucket))
    older.upload(Checkpoint.of_file(snapshot(0).last, 0), "job", "last", "8.4")
    newer.upload(Checkpoint.of_file(snapshot(7).last, 7), "job", "last", "8.4")
    publisher = publisher_of(older, durable)

    with pytest.raises(FencedOut):  # noqa: PT012 - whichever call is the first to see it
        publisher.publish(snapshot(1, is_best=True))
        publisher.close()
    with pytest.raises(FencedOut):
        publisher.publish(snapshot(2))

    assert body(client, bucket) == b"state of epoch 7"
    assert newer.head("job", "best") is None
    assert {file.name for file in copies.iterdir()} == {"last-0.pt", "last-7.pt"}


def test_a_superseded_run_that_fails_raises_its_own_error(
    client: S3Client, bucket: str, snapshot: MakeSnapshot, durable: Durable
) -> None:
    older, newer = CheckpointStore(Bucket(client, bucket)), CheckpointStore(Bucket(client, bucket))
    older.head("job", "last")
    newer.upload(Checkpoint.of_file(snapshot(7).last, 7), "job", "last", "8.4")

    def train() -> None:
        with publisher_of(older, durable) as publisher:
            with suppress(FencedOut):  # raised here if the publisher's thread was faster
                publisher.publish(snapshot(1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()


def test_an_unexpected_error_is_logged_with_its_type_and_retried(
    client: S3Client,
    bucket: str,
    snapshot: MakeSnapshot,
    durable: Durable,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = CheckpointStore(Bucket(client, bucket))
    upload = store.upload

    def fail_once(*_: object, **__: object) -> None:
        monkeypatch.setattr(store, "upload", upload)
        raise KeyError("ETag")

    monkeypatch.setattr(store, "upload", fail_once)
    limits = PublishLimits(first_pause=0.05, longest_pause=0.1, lag_epochs=2, lag_seconds=3600)
    with publisher_of(store, durable, limits) as publisher:
        publisher.publish(snapshot(1))

    assert "The state after epoch 2 is not in S3 yet: KeyError('ETag'). Retrying" in caplog.text
    assert body(client, bucket) == b"state of epoch 1"


def test_a_publisher_with_a_missing_server_warns_of_the_lag(
    snapshot: MakeSnapshot, durable: Durable, caplog: pytest.LogCaptureFixture
) -> None:
    limits = PublishLimits(first_pause=0.05, longest_pause=0.1, lag_epochs=2, lag_seconds=3600)
    publisher = publisher_of(nobody(), durable, limits)
    publisher.publish(snapshot(0))
    until(lambda: "not in S3 yet" in caplog.text, "a warning", pause=0.05)
    publisher.publish(snapshot(3))
    publisher.close(0)

    assert "Training is at epoch 4, but S3 has no state yet" in caplog.text
