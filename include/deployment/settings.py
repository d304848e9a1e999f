"""Settings of a deployment, read from the environment at the entry points and passed on as values."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from include.datasets.conversion.addresses import SETTING as HOSTS_SETTING
from include.datasets.conversion.addresses import AllowedHosts
from include.datasets.layouts.boundary import DatasetRoots
from include.errors import FinalError
from include.jobs.ownership import JobOwnership
from include.jobs.quota import GPUS, HOURS, USERS, Quotas
from include.training.architectures import find_release_url

if TYPE_CHECKING:
    from include.retraining.plans import Plans

TRAINING_DB = "training_db"
TRAINING_DB_OWNER = "training_db_owner"
TRAINING_S3 = "training_s3"
TRAINING_S3_MAINTENANCE = "training_s3_maintenance"
TRAINING_BACKEND = "training_backend"
TRAINING_AIRFLOW = "training_airflow"
"""Ids of the Airflow connections. TRAINING_DB connects to Postgres as a role that may read and write rows,
TRAINING_DB_OWNER as the role that owns the schema. The keys of TRAINING_S3 may not delete objects that tasks
have stored; those of TRAINING_S3_MAINTENANCE may. Two optional connections use HTTP: TRAINING_BACKEND for the
host application's backend, and TRAINING_AIRFLOW for Airflow itself, as a user who may write notes on runs."""

MODEL_SIGNING_KEY = "model_signing_key"
"""Id of an optional connection with the private key that signs promoted models."""

DATABASE_OPTIONS = (
    "-c statement_timeout=10s -c lock_timeout=5s -c idle_session_timeout=0 "
    "-c datestyle=ISO -c client_encoding=UTF8 "
    "-c tcp_user_timeout=30s -c tcp_keepalives_idle=15 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
)
"""Options of each session. Statements take milliseconds. One that takes seconds is waiting for a lock: it is
cancelled and retried. If the machine of a session loses power within a transaction, PostgreSQL ends the
session, with its locks, after half a minute. By default, it would keep them for more than two hours. A host
application may have chosen another style of dates, which psycopg cannot read, another encoding for its
database, and a time after which idle sessions end: an audit that reads large objects may be idle longer."""

GPU_POOL = "gpu"
GPU_QUEUE = "gpu"
MIGRATION_QUEUE = "migrate"
"""For the tasks that need `training_db_owner`: only workers of this queue have that connection."""
PROMOTION_QUEUE = "promote"
"""For the tasks that promote models: only workers of this queue have `model_signing_key`."""
MAINTENANCE_QUEUE = "maintenance"
"""For the tasks that need `training_s3_maintenance`: only workers of this queue have that connection."""

MAX_ACTIVE_RUNS = 100_000
"""Effectively unlimited: the tasks of these Dags mostly wait, and the pool limits concurrent training runs.
With a limit, Airflow would start the excess runs later, in the order of their dates. Until then, users would
not see that jobs are waiting, because the runs would not have claimed them."""

DEFAULT_BUCKET = "training-checkpoints"


class SettingRefused(FinalError):
    """A setting of this machine has an invalid value."""


@dataclass(frozen=True)
class Settings:
    """Settings of a deployment."""

    bucket: str
    """S3 bucket of the checkpoints."""
    training_root: Path
    """This machine's folder for jobs and cached data."""
    s3_public_endpoint: str | None = None
    """S3 endpoint for browsers; None for the endpoint of connection training_s3."""
    dataset_folders: tuple[Path, ...] = ()
    """Folders that may contain local datasets; if there are none, local paths are disabled."""
    pretrained_url: str | None = None
    """URL from which pretrained weights that are not in S3 are downloaded; None disables downloads."""
    is_cpu_worker: bool = False
    """Whether this worker trains on its CPU by default."""
    dataset_url_hosts: AllowedHosts = field(default_factory=AllowedHosts)
    """Hosts from which the images of an .ndjson export may be fetched."""
    model_verification_keys: str | None = None
    """Public keys that verify promoted models, in PEM, or paths of files with keys; None disables
    verification."""
    dataset_cache_limit: int | None = None
    """Size in bytes above which the cache evicts unused datasets; None means half of the disk."""
    quotas: Quotas = field(default_factory=Quotas)
    """Usage limits of each user."""
    ownership: JobOwnership = field(default_factory=JobOwnership)
    """Who may change which jobs."""

    @classmethod
    def from_environment(cls) -> Settings:
        """Read the variables that are documented in docs/deployment.md. Raises SettingRefused."""
        try:
            hosts = AllowedHosts.parse(os.environ.get(HOSTS_SETTING, ""))
            quotas = Quotas.parse(*(os.environ.get(name, "") for name in (GPUS, HOURS, USERS)))
        except ValueError as problem:
            raise SettingRefused(str(problem)) from None
        folders = os.environ.get("DATASET_ROOTS", "").split(os.pathsep)
        pretrained_url = os.environ.get("PRETRAINED_URL", "").strip() or find_release_url()
        return cls(
            bucket=os.environ.get("CHECKPOINT_BUCKET") or DEFAULT_BUCKET,
            training_root=Path(os.environ.get("TRAINING_ROOT") or "/tmp/training"),  # noqa: S108 - documented default
            s3_public_endpoint=os.environ.get("S3_PUBLIC_ENDPOINT_URL") or None,
            dataset_folders=tuple(Path(folder.strip()) for folder in folders if folder.strip()),
            pretrained_url=None if pretrained_url.lower() == "off" else pretrained_url,
            is_cpu_worker=os.environ.get("CPU_WORKER", "").strip().lower() in {"1", "true", "yes"},
            dataset_url_hosts=hosts,
            model_verification_keys=os.environ.get("MODEL_VERIFICATION_KEYS", "").strip() or None,
            dataset_cache_limit=_parse_cache_limit(os.environ.get("DATASET_CACHE_GB", "")),
            quotas=quotas,
            ownership=read_ownership(),
        )

    def find_job_folder(self, job_id: str) -> Path:
        """Return this machine's folder for the files of a job."""
        return self.training_root / job_id

    def find_run_folder(self, job_id: str) -> Path:
        """Return Ultralytics' save_dir of the job; its weights/ contains best.pt and last.pt."""
        return self.find_job_folder(job_id) / "runs" / "train"

    @property
    def dataset_roots(self) -> DatasetRoots:
        """The folders that may contain local datasets on this machine."""
        return DatasetRoots(self.dataset_folders, self.training_root)

    @property
    def gpu_locks(self) -> Path:
        """The folder with one lock file per GPU of this machine; a file is locked while its GPU is in use."""
        return self.training_root / ".gpus"

    @property
    def job_locks(self) -> Path:
        """The folder with one lock file per job of this machine; a file is locked while its job trains."""
        return self.training_root / ".jobs"

    @property
    def dataset_cache(self) -> Path:
        """The folder of fetched and generated data. Unlike a job's folder, its name starts with a dot."""
        return self.training_root / ".datasets"


def read_ownership() -> JobOwnership:
    """Read who may change which jobs, and no other setting. Raises SettingRefused."""
    return JobOwnership(
        administrators=_parse_names(os.environ.get("JOB_ADMINISTRATORS", "")),
        open_to_all=_parse_ownership(os.environ.get("JOB_OWNERSHIP", "")),
        scheduled_owner=os.environ.get("SCHEDULED_JOBS_OWNER", "").strip() or None,
    )


def load_deployed_plans() -> Plans:
    """Read the retraining plans: the file that RETRAIN_PLANS names, or this repository's. Never raises."""
    from include.retraining.plans import PLANS, load_plans

    return load_plans(Path(os.environ.get("RETRAIN_PLANS") or PLANS))


def _parse_cache_limit(given: str) -> int | None:
    """Parse DATASET_CACHE_GB; return None if it is not set. Raises SettingRefused."""
    if not given.strip():
        return None
    with suppress(ValueError):
        if 0 < (gigabytes := float(given)) < math.inf:
            return int(gigabytes * 10**9)
    raise SettingRefused(
        f"DATASET_CACHE_GB={given!r:.20} is not a number of gigabytes above 0; correct it on this machine, "
        "or omit it to let the cache take half of the disk"
    )


def _parse_names(given: str) -> frozenset[str]:
    return frozenset(name.strip() for name in given.split(",") if name.strip())


def _parse_ownership(given: str) -> bool:
    """Parse JOB_OWNERSHIP; return True if anyone may change any job. Raises SettingRefused."""
    chosen = given.strip().lower() or "owner"
    if chosen not in {"owner", "anyone"}:
        raise SettingRefused(
            f"JOB_OWNERSHIP={given!r:.20} must be 'owner' (only a job's owner and JOB_ADMINISTRATORS may "
            "change the job) or 'anyone'; correct it in the environment of every Airflow process"
        )
    return chosen == "anyone"
