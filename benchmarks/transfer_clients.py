"""Transfer checkpoints with this project's store, boto3 alone, s5cmd and rclone, in separate processes."""

from __future__ import annotations

import os
import subprocess
import sysconfig
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.costs import Cost, one_process
from benchmarks.place import shared_client
from include.s3.bucket import Bucket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import ProcessPoolExecutor

    from benchmarks.place import Services
    from include.checkpoints.store import CheckpointStore

OURS = "ours"
OVER_AN_OLDER = "ours, over an older state"
"""A client that also keeps the older state as last.previous.pt, copied within S3; the other clients
overwrite it."""


@dataclass(frozen=True)
class Ours:
    """Our store: hashes the file, replaces only the expected object, and verifies the stored object."""

    services: Services
    title: str = OURS

    def upload(self, path: Path, job_id: str) -> None:
        """Upload as the publisher does, which hashes the file first."""
        from include.checkpoints.checkpoint import Checkpoint
        from include.checkpoints.snapshot import PublishLimits
        from include.s3.deadline import StallDeadline

        limits = PublishLimits()
        deadline = StallDeadline(limits.stalled_seconds, limits.least_bytes)
        checkpoint = Checkpoint.of_file(path, epoch=0)
        _store(self.services).upload(checkpoint, job_id, "last", "benchmark", deadline=deadline)

    def download(self, job_id: str, path: Path) -> None:
        """Download and verify, as a resuming attempt does."""
        _store(self.services).download(job_id, "last", path)


@dataclass(frozen=True)
class Boto3:
    """boto3's own transfers in parts and threads, with this project's client settings."""

    services: Services
    title: str = "boto3"

    def upload(self, path: Path, job_id: str) -> None:
        """Upload without a hash computed by us."""
        shared_client(self.services).upload_file(str(path), self.services.bucket, _key(self.title, job_id))

    def download(self, job_id: str, path: Path) -> None:
        """Download without verifying."""
        shared_client(self.services).download_file(self.services.bucket, _key(self.title, job_id), str(path))


@dataclass(frozen=True)
class WarmProcess:
    """Transfers in a process that has imported everything and has open connections."""

    transfers: Ours | Boto3
    pool: ProcessPoolExecutor

    @property
    def title(self) -> str:
        """The client's name in the table."""
        return self.transfers.title

    def upload(self, path: Path, job_id: str) -> Cost:
        """Upload the file as last.pt of the job."""
        return self.pool.submit(_cost, self.transfers.upload, path, job_id).result()

    def download(self, job_id: str, path: Path) -> Cost:
        """Download last.pt of the job to the file."""
        return self.pool.submit(_cost, self.transfers.download, job_id, path).result()

    def start(self) -> None:
        """Return None: the process is warm."""


@dataclass(frozen=True)
class Program:
    """A program that is started for each transfer."""

    title: str
    """Its name, in the table and as a command."""
    copy: tuple[str, ...]
    """Its arguments before source and target."""
    remote: str
    """Address of the bucket, in the program's own syntax."""
    environment: dict[str, str]

    def upload(self, path: Path, job_id: str) -> Cost:
        """Upload the file as last.pt of the job."""
        return self.run(*self.copy, str(path), f"{self.remote}/{_key(self.title, job_id)}")

    def download(self, job_id: str, path: Path) -> Cost:
        """Download last.pt of the job to the file."""
        return self.run(*self.copy, f"{self.remote}/{_key(self.title, job_id)}", str(path))

    def start(self) -> Cost:
        """Measure `PROGRAM version`, which transfers nothing."""
        return self.run("version")

    def run(self, *arguments: str) -> Cost:
        """Run the program to its end. Raises RuntimeError with its error output if it fails."""
        command = [str(Path(sysconfig.get_path("scripts")) / self.title), *arguments]
        started = time.perf_counter()
        with subprocess.Popen(
            command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
            process.returncode = os.waitstatus_to_exitcode(status)
            output = process.stderr.read().decode(errors="replace") if process.stderr else ""
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {output.strip()}")
        return Cost(seconds, usage.ru_utime + usage.ru_stime)


Client = WarmProcess | Program
"""Uploads and downloads the state of a job."""


@contextmanager
def open_clients(services: Services) -> Iterator[list[Client]]:
    """Start a process for each client in Python, and yield all clients."""
    warm = (Ours(services), Ours(services, OVER_AN_OLDER), Boto3(services))
    with ExitStack() as stack:
        yield [
            *(WarmProcess(transfers, stack.enter_context(one_process())) for transfers in warm),
            s5cmd(services),
            _rclone(services),
        ]


def s5cmd(services: Services) -> Program:
    """Return s5cmd with access to the services' bucket."""
    access = {
        "AWS_ACCESS_KEY_ID": services.access_key,
        "AWS_SECRET_ACCESS_KEY": services.secret_key,
        "AWS_REGION": services.region,
        "S3_ENDPOINT_URL": services.endpoint_url,
    }
    copy = ("--log", "error", "cp")
    return Program("s5cmd", copy, f"s3://{services.bucket}", _without_proxy() | access)


def _rclone(services: Services) -> Program:
    remote = {
        "TYPE": "s3",
        "PROVIDER": "SeaweedFS",
        "ACCESS_KEY_ID": services.access_key,
        "SECRET_ACCESS_KEY": services.secret_key,
        "REGION": services.region,
        "ENDPOINT": services.endpoint_url,
        "NO_CHECK_BUCKET": "true",
    }
    access = {f"RCLONE_CONFIG_STORE_{name}": value for name, value in remote.items()}
    copy = ("--config", "", "copyto")
    return Program("rclone", copy, f"store:{services.bucket}", _without_proxy() | access)


def _without_proxy() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


def _key(title: str, job_id: str) -> str:
    return f"{title}/{job_id}/last.pt"


def _cost(transfer: Callable[..., None], *arguments: Path | str) -> Cost:
    """Return the cost of the call; the process does nothing else."""
    return Cost.of(lambda: transfer(*arguments), time.process_time)


@cache
def _store(services: Services) -> CheckpointStore:
    from include.checkpoints.store import CheckpointStore

    return CheckpointStore(Bucket(shared_client(services), services.bucket))
