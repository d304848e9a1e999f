"""The dataset that a job was begun with, in S3 at `datasets/jobs/{job_id}.json`.

A training that goes on in another run, or after `check_dataset` was cleared, trains on this and not on what
is in its place by then.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from include.datasets.reference import DatasetReference
from include.deployment.connections import open_training_db
from include.jobs.repository import JobRepository
from include.limits import REPORT_BYTES
from include.s3.errors import StoreRefusal
from include.s3.layout import checked_dataset_key

if TYPE_CHECKING:
    from include.claim.resolved_job import ResolvedJob
    from include.s3.bucket import Bucket

log = logging.getLogger(__name__)


class _CheckedDataset(BaseModel):
    """What is stored: the reference, and the run that began the training it belongs to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    origin_run_id: str
    dataset: DatasetReference


class CheckedDatasets:
    """The datasets of all jobs in one bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def save(self, job: ResolvedJob, dataset: DatasetReference) -> None:
        """Store what the job begins with. A refusal is only logged: then the job's next run checks anew.

        Raises StoreErrors that may pass.
        """
        content = _CheckedDataset(origin_run_id=job.origin_run_id, dataset=dataset).model_dump_json()
        try:
            self._bucket.put(
                checked_dataset_key(job.job_id), content.encode(), content_type="application/json"
            )
        except StoreRefusal as error:
            log.warning("Could not store which dataset job %s begins with: %s", job.job_id, error)

    def load(self, job: ResolvedJob) -> DatasetReference | None:
        """Return what this very training was begun with, None if that is not stored. Raises StoreErrors."""
        content = self._bucket.read(checked_dataset_key(job.job_id), REPORT_BYTES)
        if content is None:
            return None
        try:
            stored = _CheckedDataset.model_validate_json(content)
        except ValidationError:
            return None
        asked = (job.origin_run_id, job.spec.dataset, job.spec.task)
        found = (stored.origin_run_id, stored.dataset.source, stored.dataset.task)
        return stored.dataset if found == asked else None


def has_stored_state(job: ResolvedJob) -> bool:
    """Whether the training that the job is to go on with has stored a state of its own."""
    with open_training_db() as connection:
        row = JobRepository(connection).get(job.job_id)
    return row is not None and row.has_own_state
