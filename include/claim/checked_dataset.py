"""The dataset that a job was begun with, in S3 at `datasets/jobs/{job_id}.json`.

A training that goes on in another run, or after `check_dataset` was cleared, trains on this and not on what
is in its place by then.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from include.datasets.reference import DatasetReference
from include.deployment.connections import training_db
from include.jobs.repository import JobRepository
from include.limits import REPORT_BYTES
from include.s3.errors import StoreRefusal, translate_s3_errors
from include.s3.layout import checked_dataset_key
from include.s3.location import S3Location
from include.s3.reading import read_small

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.claim.resolved_job import ResolvedJob

log = logging.getLogger(__name__)


class _CheckedDataset(BaseModel):
    """What is stored: the reference, and the run that began the training it belongs to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    origin_run_id: str
    dataset: DatasetReference


class CheckedDatasets:
    """The datasets of all jobs in one bucket."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client, self._bucket = client, bucket

    def save(self, job: ResolvedJob, dataset: DatasetReference) -> None:
        """Store what the job begins with. A refusal is only logged: then the job's next run checks anew.

        Raises StoreErrors that may pass.
        """
        location = self._location(job)
        content = _CheckedDataset(origin_run_id=job.origin_run_id, dataset=dataset).model_dump_json()
        try:
            with translate_s3_errors(self._client, location):
                self._client.put_object(
                    Bucket=location.bucket,
                    Key=location.key,
                    Body=content.encode(),
                    ContentType="application/json",
                )
        except StoreRefusal as error:
            log.warning("Could not store which dataset job %s begins with: %s", job.job_id, error)

    def load(self, job: ResolvedJob) -> DatasetReference | None:
        """Return what this very training was begun with, None if that is not stored. Raises StoreErrors."""
        content = read_small(self._client, self._location(job), REPORT_BYTES)
        if content is None:
            return None
        try:
            stored = _CheckedDataset.model_validate_json(content)
        except ValidationError:
            return None
        asked = (job.origin_run_id, job.spec.dataset, job.spec.task)
        found = (stored.origin_run_id, stored.dataset.source, stored.dataset.task)
        return stored.dataset if found == asked else None

    def _location(self, job: ResolvedJob) -> S3Location:
        return S3Location(self._bucket, checked_dataset_key(job.job_id))


def is_begun(job: ResolvedJob) -> bool:
    """Whether the training that the job is to go on with has stored a state of its own."""
    with training_db() as connection:
        row = JobRepository(connection).get(job.job_id)
    return row is not None and row.has_own_state
