"""The run that claims a job, and everything that decides whether it may."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from include.checkpoints.store import CheckpointStore
from include.claim.quota import QuotaCheck
from include.deployment.model_keys import load_verification
from include.jobs.repository import JobRepository
from include.jobs.usage import UsageRepository
from include.registry.repository import DatasetRepository
from include.weights.initial import InitialWeightsFinder

if TYPE_CHECKING:
    from psycopg import Connection

    from include.deployment.settings import Settings
    from include.jobs.job import TrainingJob
    from include.jobs.ownership import JobOwnership
    from include.s3.bucket import Bucket


@dataclass(frozen=True)
class RunIdentity:
    """The Dag run that claims the job."""

    dag_id: str
    """Dag of the run."""
    run_id: str
    """Unique within the Dag. A run that replaces a deleted one may have the same id."""
    created_at: datetime
    """When the run was created; distinguishes it from a deleted run with the same id."""
    triggered_by: str | None
    """User who triggered the run; None for a schedule."""
    queued_at: datetime | None = None
    """When the run was queued, if known."""
    started_at: datetime | None = None
    """When the run started. Clearing a run that has ended resets this time; retries and waiting do not."""

    def owns(self, row: TrainingJob) -> bool:
        """Return whether the row belongs to a run with this id."""
        return (row.dag_id, row.run_id) == (self.dag_id, self.run_id)

    def name_job(self, prefix: str) -> str:
        """Return a readable job id that stays the same when the task is retried or cleared."""
        digest = hashlib.sha256(f"{self.dag_id}/{self.run_id}".encode()).hexdigest()[:6]
        return f"{prefix}-{self.created_at:%Y%m%d-%H%M%S}-{digest}"


@dataclass(frozen=True)
class Claimant:
    """A run that claims a job, with the stores that the claim uses and the rules for the run's user."""

    run: RunIdentity
    """The run that claims."""
    jobs: JobRepository
    """Reads and writes the rows of jobs."""
    checkpoints: CheckpointStore
    """The states that jobs have stored in S3."""
    is_running: Callable[[str, str], bool]
    """Returns whether the run with this (dag_id, run_id) is queued or running in Airflow."""
    finder: InitialWeightsFinder
    """Finds the weights that `model` names; downloads a pretrained file that S3 does not have."""
    datasets: DatasetRepository
    """The registered datasets."""
    quotas: QuotaCheck
    """Checks the users' quotas as they are at the time of the claim."""
    ownership: JobOwnership
    """The rules on who may change whose jobs."""

    @classmethod
    def of(
        cls,
        run: RunIdentity,
        database: Connection[Any],
        bucket: Bucket,
        settings: Settings,
        is_running: Callable[[str, str], bool],
    ) -> Self:
        """Return the claimant with the deployment's database, bucket and settings."""
        return cls(
            run,
            JobRepository(database),
            CheckpointStore(bucket),
            is_running,
            InitialWeightsFinder(bucket, settings.pretrained_url, database, load_verification(settings)),
            DatasetRepository(database),
            QuotaCheck(settings.quotas, UsageRepository(database), datetime.now(UTC)),
            settings.ownership,
        )
