"""The services that the jobs of the matrix use, reached through what can fail."""

from __future__ import annotations

import json
import shutil
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg

from tests.faults.database_door import DatabaseDoor
from tests.faults.hold import Hold
from tests.faults.s3_proxy import S3Proxy
from tests.interrupted_attempts import Place, store_model
from tests.tiny_datasets import build

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

TASK = "classify"
EPOCHS = 3
IMAGES = 48
"""Twelve batches an epoch, of four images."""


class Backend:
    """The platform's backend: counts what it is told, by job."""

    def __init__(self) -> None:
        told = self.told = Counter[str]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                told[body["job_id"]] += 1
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                """Write nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass(frozen=True)
class Scene:
    """place reaches the services directly; the jobs get there through the proxy and the door.

    superuser_url is of the same database.
    """

    place: Place
    superuser_url: str
    hold: Hold
    s3: S3Proxy
    database: DatabaseDoor
    backend: Backend
    weights: dict[int, str] = field(default_factory=dict)
    """Of the uninterrupted training, by its number of processes."""

    def prepare(self) -> None:
        """Put the dataset and the model that every job begins with where they belong."""
        build(TASK, self.data, train=IMAGES, val=4)
        store_model(self.place, TASK)

    @property
    def client(self) -> S3Client:
        """S3 itself, past the proxy."""
        return self.place.client

    @property
    def data(self) -> Path:
        """The folder of the dataset."""
        return self.place.folder / "data"

    def connect(self) -> psycopg.Connection[Any]:
        """To the database itself as superuser, past the door; each statement is a transaction of its own."""
        return psycopg.connect(self.superuser_url, autocommit=True)

    def data_of(self, job_id: str) -> Path:
        """A copy of the dataset that one job may have to itself."""
        return Path(shutil.copytree(self.data, self.place.folder / f"{job_id}-data"))

    def environment(self, root: Path, data: Path) -> dict[str, str]:
        """What Airflow gives its tasks."""
        s3 = json.loads(self.place.environment()["AIRFLOW_CONN_TRAINING_S3"])
        s3["extra"] |= {"endpoint_url": self.s3.endpoint_url}
        return {
            "AIRFLOW_CONN_TRAINING_DB": self.database.url,
            "AIRFLOW_CONN_TRAINING_S3": json.dumps(s3),
            "AIRFLOW_CONN_TRAINING_BACKEND": json.dumps({"conn_type": "http", "host": self.backend.url}),
            "CHECKPOINT_BUCKET": self.place.bucket,
            "CPU_WORKER": "true",
            "TRAINING_ROOT": str(root),
            "DATASET_ROOTS": str(data),
        }

    def conf(self, job_id: str, data: Path) -> dict[str, Any]:
        """The parameters of a job here."""
        return {
            "job_id": job_id,
            "task": TASK,
            "dataset": str(data),
            "model": f"s3://{self.place.bucket}/{TASK}.pt",
            "epochs": EPOCHS,
            "imgsz": 64,
            "batch": 4,
            "overrides": {"plots": False, "nbs": 12, "close_mosaic": 1},
        }
