"""Count the S3 requests and bytes of a job, for each state and in total.

`python -m benchmarks.requests [--quick]` prints the table.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import statistics
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.material import make_digits
from benchmarks.place import BUCKET, local_services, main
from benchmarks.proxy import Proxy
from benchmarks.sides import PATIENCE_SECONDS, failure, redirect, wait_until
from benchmarks.table import Table, progress
from include.checkpoints.store import CheckpointStore

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from benchmarks.place import Services
    from include.checkpoints.checkpoint import Checkpoint, CheckpointKind
    from include.checkpoints.stored import UploadResult
    from include.datasets.reference import DatasetReference

JOB = "counted"
OPERATIONS = ("PUT", "GET", "HEAD", "LIST", "DELETE", "POST")
IMAGES = {"train": 8, "val": 4}
_PREFIX = "datasets/tiny/"


@dataclass(frozen=True)
class Traffic:
    """The traffic between a job and the S3 server."""

    requests: Counter[str]
    """Number of requests by operation."""
    sent: int
    """Bytes to the server, headers included."""
    received: int
    """Bytes from the server, headers included."""

    @classmethod
    def until_now(cls, proxy: Proxy) -> Traffic:
        """Return the traffic that the proxy has carried so far."""
        return cls(Counter(proxy.requests), proxy.sent, proxy.received)

    def since(self, earlier: Traffic) -> Traffic:
        """Return the traffic since `earlier`."""
        return Traffic(
            self.requests - earlier.requests, self.sent - earlier.sent, self.received - earlier.received
        )

    def row(self) -> tuple[str, ...]:
        """Return the cells: the number of requests for each operation, and the bytes."""
        counts = (str(self.requests[operation]) for operation in OPERATIONS)
        return (*counts, *(f"{size / 1e6:.1f} MB" for size in (self.sent, self.received)))


@dataclass(frozen=True)
class Stored:
    """A file that the job has uploaded."""

    kind: CheckpointKind
    size: int
    epoch: int


class ReportingStore(CheckpointStore):
    """The store of the task `train`, extended to report each file that it has sent."""

    def __init__(self, connection: Connection, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._connection = connection

    def upload(
        self, checkpoint: Checkpoint, job_id: str, kind: CheckpointKind, *version: str, **options: Any
    ) -> UploadResult:
        """Upload as usual, and report the file if it was sent."""
        upload = super().upload(checkpoint, job_id, kind, *version, **options)
        if upload.was_sent:
            self._connection.send(Stored(kind, checkpoint.size, checkpoint.epoch))
        return upload


def measure(folder: Path, quick: bool) -> Table:
    """Train a job through a counting proxy, and compare the sent bytes with the sizes of its files."""
    epochs = 2 if quick else 100
    with local_services(folder) as services, Proxy(services.endpoint_url) as proxy:
        dataset = _upload_dataset(services, folder)
        services.begin(JOB)
        counted = replace(services, endpoint_url=proxy.endpoint_url)
        moments, stored = _train(counted, proxy, folder / "root", dataset, epochs)
    return _table(moments, stored, epochs)


def _upload_dataset(services: Services, folder: Path) -> DatasetReference:
    """Upload a few of the bundled scenes, and check them as the task before `train` does."""
    from include.datasets.caching.listing import S3Listings
    from include.datasets.check import inspect_dataset
    from include.datasets.layouts.boundary import DatasetRoots
    from include.datasets.s3 import S3ObjectReader
    from include.s3.bucket import Bucket

    data, _ = make_digits(folder / "digits")
    bucket = Bucket(services.client(), BUCKET)
    bucket.put(f"{_PREFIX}data.yaml", data.read_bytes())
    for split, count in IMAGES.items():
        for image in sorted((data.parent / "images" / split).iterdir())[:count]:
            label = data.parent / "labels" / split / f"{image.stem}.txt"
            bucket.put(f"{_PREFIX}images/{split}/{image.name}", image.read_bytes())
            bucket.put(f"{_PREFIX}labels/{split}/{label.name}", label.read_bytes())
    return inspect_dataset(
        f"s3://{BUCKET}/{_PREFIX}",
        "detect",
        folder / "checked",
        S3ObjectReader(bucket.client),
        DatasetRoots(),
        S3Listings(bucket),
    ).reference


def _train(
    services: Services, proxy: Proxy, folder: Path, dataset: DatasetReference, epochs: int
) -> tuple[list[Traffic], list[Stored]]:
    """Train in a new process; return the traffic at each upload of last.pt and at the end, and the files."""
    folder.mkdir()
    connection, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(
        target=_run_attempt, args=(services, folder, dataset.model_dump_json(), epochs, theirs)
    )
    process.start()
    theirs.close()
    moments, stored = [Traffic.until_now(proxy)], list[Stored]()
    while (found := _receive(connection)) is not None:
        stored.append(found)
        if found.kind == "last":
            moments.append(Traffic.until_now(proxy))
            progress(f"{len(moments) - 1} states, epoch {found.epoch + 1} of {epochs}")
    process.join()
    moments.append(Traffic.until_now(proxy))
    if process.exitcode:
        raise failure("The training run failed", folder / "log")
    return moments, stored


def _receive(connection: Connection) -> Stored | None:
    try:
        found: Stored = connection.recv()
    except EOFError:
        return None
    return found


def _run_attempt(services: Services, folder: Path, dataset: str, epochs: int, connection: Connection) -> None:
    """Do what the task `train` does, but let each epoch wait until the previous state is stored."""
    redirect(folder / "log")
    os.environ |= services.airflow_environment(folder)
    from ultralytics.utils.callbacks.base import default_callbacks

    from include.attempt.attempt import TrainingAttempt
    from include.claim.resolved_job import ResolvedJob
    from include.datasets.reference import DatasetReference
    from include.deployment.connections import open_bucket
    from include.deployment.settings import Settings
    from include.jobs.spec import TrainingSpec

    reference = DatasetReference.model_validate_json(dataset)
    settings = Settings(services.bucket, folder, is_cpu_worker=True)
    row = services.row(JOB)

    def wait_for_state(trainer: Any) -> None:
        epoch = trainer.epoch - 1
        if epoch >= 0:
            wait_until(
                lambda: (row.require_own().durable or (-1, 0))[0] >= epoch,
                f"the state of epoch {epoch + 1}",
                PATIENCE_SECONDS,
            )

    default_callbacks["on_train_epoch_start"].append(wait_for_state)
    spec = TrainingSpec(
        task="detect", model="yolo11n", dataset=reference.source, epochs=epochs, imgsz=32, batch=8,
        publish_every=1, patience=epochs, workers=0, overrides={"plots": False},
    )  # fmt: skip
    job = ResolvedJob(
        job_id=JOB, dag_id="benchmark", run_id=JOB, origin_run_id=JOB, spec=spec.with_defaults()
    )
    TrainingAttempt(
        job,
        reference,
        1,
        settings,
        lambda: ReportingStore(connection, open_bucket(settings), run_id=JOB),
    ).run()


def median_traffic(moments: list[Traffic]) -> Traffic:
    """Return the median traffic between consecutive moments."""
    between = [later.since(earlier) for earlier, later in itertools.pairwise(moments)]
    return Traffic(
        Counter(
            {
                operation: round(statistics.median(each.requests[operation] for each in between))
                for operation in OPERATIONS
            }
        ),
        round(statistics.median(each.sent for each in between)),
        round(statistics.median(each.received for each in between)),
    )


def _table(moments: list[Traffic], stored: list[Stored], epochs: int) -> Table:
    start, *states, end = moments
    table = Table(
        "What a job asks of S3",
        f"A job of {epochs} epochs of YOLO11n on {IMAGES['train']} training images of 64 px below a prefix, "
        "with a state for each epoch (`publish_every=1`): what the task `train` sends, counted by a "
        "proxy. LIST is a GET of a bucket, and a copy within S3 is a PUT without a body. Bytes include "
        "headers. The first row includes fetching the dataset and claiming the job. Each epoch waits until "
        "the previous state is stored, so that no state is replaced by a newer one before it is sent.",
        ("", *OPERATIONS, "sent", "received"),
    )
    table.add("until the first state is stored", *states[0].since(start).row())
    table.add("a state, median", *median_traffic(states).row())
    table.add("after the last state: report and final files", *end.since(states[-1]).row())
    table.add("the job", *end.since(start).row())
    table.result = summary(end.since(start), stored, epochs)
    return table


def summary(job: Traffic, stored: list[Stored], epochs: int) -> str:
    """Compare the sent bytes with the size of the uploaded files, and with `epochs` times a state's size."""
    last = [each.size for each in stored if each.kind == "last"]
    size, files = statistics.median(last), sum(each.size for each in stored)
    requests = job.requests.total()
    return (
        f"the target is 0 LIST requests, and there were {job.requests['LIST']}. The job uploaded last.pt "
        f"({size / 1e6:.1f} MB) {len(last)} times and best.pt {len(stored) - len(last)} times, "
        f"{files / 1e6:.1f} MB in total. Including headers, it sent {job.sent / files:.4f} times as many "
        f"bytes: {job.sent / (epochs * size):.3f} times {epochs} x the size of last.pt. It sent {requests} "
        f"requests, {requests / epochs:.1f} for each epoch."
    )


if __name__ == "__main__":
    main(measure)
