"""What a deployment sets, read from the environment at the edge and passed on as values."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from include.datasets.boundary import DatasetRoots
from include.training.architectures import release_url

TRAINING_DB = "training_db"
TRAINING_S3 = "training_s3"
TRAINING_BACKEND = "training_backend"
TRAINING_AIRFLOW = "training_airflow"
"""Ids of the Airflow connections: Postgres, any S3 endpoint, and two that are optional (HTTP): the platform's
backend, and Airflow itself with a user who may write notes on runs."""

DATABASE_LIMITS = "-c statement_timeout=10s -c lock_timeout=5s"
"""Each statement takes milliseconds: one that takes longer waits for a lock, and is retried."""

GPU_POOL = "gpu"
GPU_QUEUE = "gpu"

MAX_ACTIVE_RUNS = 100_000
"""No limit, of a Dag whose tasks mostly wait: the pool alone limits what trains at once. A run that may not
start has no row, so nobody would see it wait, and Airflow would order it by its date."""

DEFAULT_BUCKET = "training-checkpoints"


@dataclass(frozen=True)
class Settings:
    """What a deployment sets."""

    bucket: str
    """S3 bucket of the checkpoints."""
    training_root: Path
    """This machine's folder for jobs and cached data."""
    s3_public_endpoint: str | None = None
    """S3 as browsers see it; None where that is the endpoint of connection training_s3."""
    dataset_folders: tuple[Path, ...] = ()
    """Folders below which a local dataset may lie; without any, local paths are off."""
    pretrained_url: str | None = None
    """Where pretrained weights are downloaded from that S3 does not have; None for nowhere."""
    cpu_worker: bool = False
    """Whether this worker trains on its CPU where nobody asked for that."""

    @classmethod
    def from_environment(cls) -> Settings:
        """Read them from the variables that docs/deployment.md lists."""
        folders = os.environ.get("DATASET_ROOTS", "").split(os.pathsep)
        pretrained_url = os.environ.get("PRETRAINED_URL", "").strip() or release_url()
        return cls(
            bucket=os.environ.get("CHECKPOINT_BUCKET") or DEFAULT_BUCKET,
            training_root=Path(os.environ.get("TRAINING_ROOT") or "/tmp/training"),  # noqa: S108 - documented default
            s3_public_endpoint=os.environ.get("S3_PUBLIC_ENDPOINT_URL") or None,
            dataset_folders=tuple(Path(folder.strip()) for folder in folders if folder.strip()),
            pretrained_url=None if pretrained_url.lower() == "off" else pretrained_url,
            cpu_worker=os.environ.get("CPU_WORKER", "").strip().lower() in {"1", "true", "yes"},
        )

    def job_folder(self, job_id: str) -> Path:
        """Everything that this machine holds of a job."""
        return self.training_root / job_id

    def run_folder(self, job_id: str) -> Path:
        """Ultralytics' save_dir of the job; its weights/ holds best.pt and last.pt."""
        return self.job_folder(job_id) / "runs" / "train"

    @property
    def dataset_roots(self) -> DatasetRoots:
        """Where a local dataset may lie on this machine."""
        return DatasetRoots(self.dataset_folders, self.training_root)

    @property
    def gpu_locks(self) -> Path:
        """One file for each GPU of this machine that a training has had, locked while it has it."""
        return self.training_root / ".gpus"

    @property
    def job_locks(self) -> Path:
        """One file for each job that trains on this machine, locked while it does."""
        return self.training_root / ".jobs"

    @property
    def dataset_cache(self) -> Path:
        """Fetched and generated data. The dot keeps it apart from job ids, which never begin with one."""
        return self.training_root / ".datasets"
