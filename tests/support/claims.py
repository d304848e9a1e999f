"""Claims jobs as the task `resolve_config` does, with a real PostgreSQL and a real S3."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg

from include.checkpoints.store import CheckpointStore
from include.claim.claimant import Claimant, RunIdentity
from include.claim.resolve import resolve
from include.claim.resolved_job import ResolvedJob
from include.jobs.ownership import JobOwnership
from include.jobs.repository import JobRepository
from include.registry.repository import DatasetRepository
from include.s3.bucket import Bucket
from tests.support.quotas import check_quota
from tests.support.release_server import finder

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

RUN = RunIdentity("train_yolo", "manual__1", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "ada")
"""The run that claims a job, unless a test says otherwise."""
OWNERS = JobOwnership(administrators=frozenset({"root"}))
"""Jobs belong to the users who started them; root may change them, too."""


@dataclass(frozen=True)
class Claims:
    """Claims jobs in one database and one bucket. Call it with the parameters of a run."""

    connection: psycopg.Connection[Any]
    client: S3Client
    bucket: str
    release: str | None = None
    """URL from which pretrained weights are downloaded; None: they are not."""

    def __call__(
        self,
        params: dict[str, Any],
        run: RunIdentity = RUN,
        ownership: JobOwnership = OWNERS,
        *,
        running: bool = False,
    ) -> ResolvedJob:
        """Return the job that the run claims; `running` says whether other runs are in progress."""
        return resolve(params, self.claimant(run, ownership, running=running))

    def claimant(
        self,
        run: RunIdentity = RUN,
        ownership: JobOwnership = OWNERS,
        *,
        running: bool = False,
        **quota: Any,
    ) -> Claimant:
        """Return the run as a claimant, with a quota as in `check_quota`."""
        return Claimant(
            run,
            JobRepository(self.connection),
            CheckpointStore(Bucket(self.client, self.bucket)),
            lambda *_: running,
            finder(self.client, self.bucket, self.connection, self.release),
            DatasetRepository(self.connection),
            check_quota(self.connection, **quota),
            ownership,
        )
