"""The services that the jobs of the matrix use, through proxies that can fail."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from tests.support.faults.database_door import DatabaseProxy
from tests.support.faults.hold import Hold
from tests.support.faults.s3_proxy import S3Proxy
from tests.support.http_server import Handler, Server
from tests.support.interrupted_attempts import Place, store_model
from tests.support.tiny_datasets import build

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.ultralytics_tasks import Task

TASK: Task = "classify"
EPOCHS = 3
IMAGES = 48
"""Twelve batches of four images per epoch."""


class Backend(Server):
    """Stands in for the host application's backend, and counts the notifications by job."""

    def __init__(self) -> None:
        received = self.received = Counter[str]()

        class Notified(Handler):
            def do_POST(self) -> None:
                received[json.loads(self.body())["job_id"]] += 1
                self.respond(200)

        super().__init__(Notified)


@dataclass(frozen=True)
class Scene:
    """The services of the jobs. `place` reaches the services directly; the jobs go through the two proxies.

    superuser_url is the URL of the same database for the superuser.
    """

    place: Place
    superuser_url: str
    hold: Hold
    s3: S3Proxy
    database: DatabaseProxy
    backend: Backend
    weights: dict[int, str] = field(default_factory=dict)
    """The weights of the uninterrupted training run, by number of processes."""

    def prepare(self) -> None:
        """Create the dataset, and store the model that every job starts from."""
        build(TASK, self.data, train=IMAGES, val=4)
        store_model(self.place, TASK)

    @property
    def client(self) -> S3Client:
        """Return a client of S3 itself, bypassing the proxy."""
        return self.place.client

    @property
    def data(self) -> Path:
        """Return the folder of the dataset."""
        return self.place.folder / "data"

    def connect(self) -> psycopg.Connection[Any]:
        """Connect to the database itself as superuser, with autocommit, bypassing the proxy."""
        return psycopg.connect(self.superuser_url, autocommit=True)

    def copy_data(self, job_id: str) -> Path:
        """Return a copy of the dataset for one job."""
        return Path(shutil.copytree(self.data, self.place.folder / f"{job_id}-data"))

    def environment(self, root: Path, data: Path) -> dict[str, str]:
        """Return the environment variables that Airflow would set for its tasks."""
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
        """Return the parameters of a job."""
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
