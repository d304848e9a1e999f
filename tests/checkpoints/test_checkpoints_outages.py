"""If S3 dies, hangs, throttles or refuses requests, snapshots become durable once S3 has recovered."""

from __future__ import annotations

import logging
import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from queue import Queue
from random import Random
from typing import TYPE_CHECKING, Any, Self

import boto3
import psutil
import pytest
from botocore.config import Config

from include.checkpoints.publisher import BackgroundPublisher
from include.checkpoints.snapshot import PublishLimits, Snapshot
from include.checkpoints.store import CheckpointStore
from include.s3.bucket import Bucket
from include.s3.client import build_client_config
from include.s3.local_file import TransferLimits
from include.stack.s3 import S3, S3Ports
from include.stack.s3_identities import Keys, Role
from tests.support.cutting_proxy import CuttingProxy
from tests.support.dataset_steps import arguments
from tests.support.first_write import wait_until_storing
from tests.support.stacks import process_of, reachable_directory

if TYPE_CHECKING:
    from types import TracebackType

    from mypy_boto3_s3 import S3Client

log = logging.getLogger("include.checkpoints.publisher")

SIZE = 4 * 1024**2
LARGE = 32 * 1024**2  # larger than all socket buffers
SHORT_TIMEOUTS = build_client_config().merge(
    Config(connect_timeout=1, read_timeout=1, retries={"total_max_attempts": 1})
)
LONG_TIMEOUTS = build_client_config().merge(Config(connect_timeout=60, read_timeout=60))
ONCE = LONG_TIMEOUTS.merge(Config(retries={"total_max_attempts": 1}))
"""For faults that end a request immediately: with a short time-out, a slow server would seem faulty."""
QUICK = PublishLimits(first_pause=0.1, longest_pause=0.5)

Make = Callable[..., Snapshot]


@pytest.fixture(scope="module")
def own_s3() -> Iterator[S3]:
    """Yield an S3 server that tests may kill, suspend and start."""
    with reachable_directory() as directory:
        server = S3(directory, S3Ports.choose(), {Role.OWNER: Keys("key", "secret-key")}, ())
        server.start()
        try:
            wait_until_storing(server)
            yield server
        finally:
            process_of(server.state, "s3").send_signal(signal.SIGCONT)
            server.stop()


@pytest.fixture
def own_bucket(own_s3: S3) -> str:
    name = f"test-{secrets.token_hex(6)}"
    own_s3.client().create_bucket(Bucket=name)
    return name


def kill(process: psutil.Process) -> None:
    """Kill the process and wait until it has ended; until then it would not be restarted."""
    process.kill()
    process.wait(60)


def connect(server: S3, **changes: Any) -> S3Client:
    client: S3Client = boto3.client("s3", **(arguments(server) | {"config": ONCE} | changes))
    return client


@pytest.fixture
def snapshot(tmp_path: Path) -> Make:
    def make_snapshot(epoch: int, size: int = SIZE) -> Snapshot:
        path = tmp_path / f"last-{epoch}.pt"
        path.write_bytes(content(epoch, size))
        best = tmp_path / f"best-{epoch}.pt"
        best.write_bytes(weights(epoch))
        return Snapshot(epoch, path, best)

    return make_snapshot


def content(epoch: int, size: int = SIZE) -> bytes:
    return Random(epoch).randbytes(size)


def weights(epoch: int) -> bytes:
    return b"weights of " + content(epoch)[:100]


class Failures(logging.Handler):
    """The messages that the publisher logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.sentences: Queue[str] = Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.sentences.put(record.getMessage())


class Run:
    """A publisher, the epochs that it reported as durable, and the failures that it logged."""

    def __init__(self, store: CheckpointStore, limits: PublishLimits = QUICK) -> None:
        self._durable: Queue[int] = Queue()
        self._failures = Failures()
        self._publisher = partial(
            BackgroundPublisher,
            store,
            "job",
            "8.4",
            lambda epoch, batch: self._durable.put(epoch),
            limits,
            grace_seconds=0,
        )

    def __enter__(self) -> Self:
        log.addHandler(self._failures)
        self.publisher = self._publisher()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.publisher.__exit__(kind, error, trace)
        log.removeHandler(self._failures)

    def wait_for_durable(self, epoch: int) -> None:
        while self._durable.get(timeout=120) != epoch:
            pass

    def wait_for_failure(self, sentence: str) -> None:
        while sentence not in self._failures.sentences.get(timeout=120):
            pass


def stored(server: S3, bucket: str, name: str = "last.pt") -> bytes:
    return server.client().get_object(Bucket=bucket, Key=f"checkpoints/job/{name}")["Body"].read()


def test_a_snapshot_that_a_killed_server_missed_is_durable_after_its_restart(
    own_s3: S3, own_bucket: str, snapshot: Make, tmp_path: Path
) -> None:
    with Run(CheckpointStore(Bucket(connect(own_s3), own_bucket))) as run:
        run.publisher.publish(snapshot(0))
        run.wait_for_durable(0)
        kill(process_of(own_s3.state, "s3"))
        run.publisher.publish(snapshot(1))
        run.wait_for_failure("does not respond")
        run.wait_for_failure("does not respond")
        own_s3.start()
        run.wait_for_durable(1)

    assert stored(own_s3, own_bucket) == content(1)
    assert stored(own_s3, own_bucket, "best.pt") == weights(1)
    assert list(tmp_path.iterdir()) == []


def test_a_server_killed_between_best_and_last_gets_last_after_its_restart(
    own_s3: S3, own_bucket: str, snapshot: Make
) -> None:
    client = connect(own_s3)
    victims = iter([process_of(own_s3.state, "s3")])

    def kill_before_last(request: Any, **_: object) -> None:
        if request.url.endswith("/last.pt"):
            for victim in victims:
                kill(victim)

    client.meta.events.register("before-send.s3.PutObject", kill_before_last)
    with Run(CheckpointStore(Bucket(client, own_bucket))) as run:
        run.publisher.publish(snapshot(0))
        run.wait_for_failure("does not respond")
        own_s3.start()
        run.wait_for_durable(0)

    assert stored(own_s3, own_bucket) == content(0)
    assert stored(own_s3, own_bucket, "best.pt") == weights(0)


def test_late_writes_by_a_suspended_server_are_not_mistaken_for_another_attempt(
    own_s3: S3, own_bucket: str, snapshot: Make
) -> None:
    # After SIGCONT the server executes the requests left in its sockets as well as their retries.
    with Run(CheckpointStore(Bucket(connect(own_s3, config=SHORT_TIMEOUTS), own_bucket))) as run:
        run.publisher.publish(snapshot(0))
        run.wait_for_durable(0)
        process_of(own_s3.state, "s3").send_signal(signal.SIGSTOP)
        for epoch in (1, 2):
            run.publisher.publish(snapshot(epoch))
            run.wait_for_failure("does not respond")
        process_of(own_s3.state, "s3").send_signal(signal.SIGCONT)
        run.wait_for_durable(2)
        run.publisher.publish(snapshot(3))

    assert stored(own_s3, own_bucket) == content(3)


def test_a_throttled_request_is_retried_later(own_s3: S3, own_bucket: str, snapshot: Make) -> None:
    with CuttingProxy(own_s3.endpoint_url, throttled=4) as proxy:
        client = connect(own_s3, endpoint_url=proxy.endpoint_url)
        with Run(CheckpointStore(Bucket(client, own_bucket))) as run:
            run.publisher.publish(snapshot(0))
            run.wait_for_failure("SlowDown")
            run.wait_for_durable(0)

    assert stored(own_s3, own_bucket) == content(0)


def test_a_snapshot_is_durable_once_its_missing_bucket_is_created(own_s3: S3, snapshot: Make) -> None:
    with Run(CheckpointStore(Bucket(connect(own_s3), "made-later"))) as run:
        run.publisher.publish(snapshot(0))
        run.wait_for_failure("Bucket 'made-later' does not exist")
        own_s3.client().create_bucket(Bucket="made-later")
        run.wait_for_durable(0)

    assert stored(own_s3, "made-later") == content(0)


def test_a_snapshot_is_durable_once_wrong_keys_are_corrected(
    own_s3: S3, own_bucket: str, snapshot: Make
) -> None:
    session = boto3.Session(own_s3.access_key, "wrong", region_name=own_s3.region)
    client = session.client("s3", endpoint_url=own_s3.endpoint_url, config=SHORT_TIMEOUTS)
    with Run(CheckpointStore(Bucket(client, own_bucket))) as run:
        run.publisher.publish(snapshot(0))
        run.wait_for_failure("does not accept the keys of connection training_s3")
        credentials = session.get_credentials()
        assert credentials is not None
        credentials.secret_key = own_s3.secret_key  # the client signs with this object
        run.wait_for_durable(0)

    assert stored(own_s3, own_bucket) == content(0)


def test_an_upload_that_trickles_is_abandoned_and_repeated(
    own_s3: S3, own_bucket: str, snapshot: Make
) -> None:
    limits = PublishLimits(first_pause=0.1, longest_pause=0.5, stalled_seconds=2, least_bytes=SIZE)
    with CuttingProxy(own_s3.endpoint_url, sent=LARGE // 2, then="trickle", cuts=1) as proxy:
        client = connect(own_s3, endpoint_url=proxy.endpoint_url, config=LONG_TIMEOUTS)
        with Run(CheckpointStore(Bucket(client, own_bucket)), limits) as run:
            run.publisher.publish(snapshot(0, LARGE))
            run.wait_for_failure(
                "The upload was abandoned: either training ended, or S3 did not respond for 2 s"
            )
            run.wait_for_durable(0)

    assert stored(own_s3, own_bucket) == content(0, LARGE)


def test_an_upload_over_a_slow_link_is_not_abandoned(
    own_s3: S3, own_bucket: str, snapshot: Make, caplog: pytest.LogCaptureFixture
) -> None:
    limits = PublishLimits(first_pause=0.1, longest_pause=0.5, stalled_seconds=3, least_bytes=64 * 1024)
    with CuttingProxy(own_s3.endpoint_url, sent=0, then="trickle") as proxy:
        client = connect(own_s3, endpoint_url=proxy.endpoint_url, config=LONG_TIMEOUTS)
        with Run(CheckpointStore(Bucket(client, own_bucket)), limits) as run:
            run.publisher.publish(snapshot(0, 5 * 256 * 1024))  # this upload takes four seconds
            run.wait_for_durable(0)

    assert stored(own_s3, own_bucket) == content(0, 5 * 256 * 1024)
    assert "abandoned" not in caplog.text


def test_a_large_state_is_resumed_where_its_connection_broke_before_a_newer_one_is_sent(
    own_s3: S3, own_bucket: str, snapshot: Make
) -> None:
    in_parts = TransferLimits(5 * 1024**2, 5 * 1024**2, parallel_parts=1)
    with CuttingProxy(own_s3.endpoint_url, sent=8 * 1024**2) as proxy:  # enough for one part, but not for two
        client = connect(own_s3, endpoint_url=proxy.endpoint_url)
        with Run(CheckpointStore(Bucket(client, own_bucket), in_parts)) as run:
            run.publisher.publish(snapshot(0, 16 * 1024**2))
            run.wait_for_failure("connection was interrupted")
            run.publisher.publish(snapshot(1))
            run.wait_for_durable(0)
            run.wait_for_durable(1)

    assert stored(own_s3, own_bucket, "last.previous.pt") == content(0, 16 * 1024**2)
    assert stored(own_s3, own_bucket) == content(1)
    assert "Uploads" not in own_s3.client().list_multipart_uploads(Bucket=own_bucket)


def test_a_state_whose_uploaded_parts_were_removed_is_sent_again(
    own_s3: S3, own_bucket: str, snapshot: Make
) -> None:
    in_parts = TransferLimits(5 * 1024**2, 5 * 1024**2, parallel_parts=1)
    with CuttingProxy(own_s3.endpoint_url, sent=8 * 1024**2, cuts=1) as proxy:
        client = connect(own_s3, endpoint_url=proxy.endpoint_url)
        removers = iter([own_s3.client()])

        def remove_parts(**_: object) -> None:
            """After the connection broke, remove the stored part once, before the next part is sent."""
            for remover in removers if proxy.cuts else ():
                for upload in remover.list_multipart_uploads(Bucket=own_bucket)["Uploads"]:
                    remover.abort_multipart_upload(
                        Bucket=own_bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )

        client.meta.events.register("before-send.s3.UploadPart", remove_parts)
        with Run(CheckpointStore(Bucket(client, own_bucket), in_parts)) as run:
            run.publisher.publish(snapshot(0, 11 * 1024**2))
            run.wait_for_failure("connection was interrupted")
            run.wait_for_durable(0)

    assert next(removers, None) is None
    assert stored(own_s3, own_bucket) == content(0, 11 * 1024**2)


def test_a_stored_state_is_durable_although_the_response_never_arrives(
    own_s3: S3, own_bucket: str, snapshot: Make
) -> None:
    forever = build_client_config().merge(Config(read_timeout=3600))
    limits = TransferLimits(answer_seconds=0.5)
    with CuttingProxy(own_s3.endpoint_url, answer_to_large=SIZE, cuts=1, then="hang") as proxy:
        client = connect(own_s3, endpoint_url=proxy.endpoint_url, config=forever)
        with Run(CheckpointStore(Bucket(client, own_bucket), limits)) as run:
            run.publisher.publish(snapshot(0))
            run.wait_for_durable(0)
            run.publisher.publish(snapshot(1))
            run.wait_for_durable(1)

    assert proxy.cuts == 1
    assert stored(own_s3, own_bucket) == content(1)


def test_closing_aborts_a_hanging_upload(own_s3: S3, own_bucket: str, snapshot: Make, tmp_path: Path) -> None:
    with CuttingProxy(own_s3.endpoint_url, sent=SIZE // 2, then="hang") as proxy:
        store = CheckpointStore(
            Bucket(connect(own_s3, endpoint_url=proxy.endpoint_url, config=LONG_TIMEOUTS), own_bucket)
        )
        run = Run(store)
        with run:
            run.publisher.publish(snapshot(0, LARGE))
            assert proxy.failing.wait(60)
            (thread,) = [each for each in threading.enumerate() if each.name == "publish-job"]
            run.publisher.publish(snapshot(1, LARGE))
            run.publisher.close(0)
            left = list(tmp_path.iterdir())
        proxy.heal()
        thread.join(60)
        proxy.wait_for_the_failing()

    assert not thread.is_alive()
    assert left == []
    assert run.publisher.durable is None
    names = [each["Key"] for each in own_s3.client().list_objects_v2(Bucket=own_bucket)["Contents"]]
    assert names == ["checkpoints/job/best.pt"]
