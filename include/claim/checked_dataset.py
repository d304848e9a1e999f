"""Stores the dataset that a job started with, in S3 at `datasets/jobs/{job_id}.json`.

A training run that is resumed by another Dag run, or after `check_dataset` was cleared, uses this dataset,
even if the content of its source has changed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from include.datasets.reference import DatasetReference
from include.limits import REPORT_BYTES
from include.s3.errors import StoreRefusal
from include.s3.layout import build_checked_dataset_key

if TYPE_CHECKING:
    from include.claim.resolved_job import ResolvedJob
    from include.s3.bucket import Bucket

log = logging.getLogger(__name__)


class _CheckedDataset(BaseModel):
    """The stored object."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    origin_run_id: str
    """The Dag run that started the job's training."""
    dataset: DatasetReference
    """The dataset that it started with."""


class CheckedDatasets:
    """The datasets of all jobs in one bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def save(self, job: ResolvedJob, dataset: DatasetReference) -> None:
        """Store the dataset that the job starts with.

        If S3 refuses the object, the error is only logged, and the job's next run checks the dataset again.
        Raises transient StoreErrors.
        """
        content = _CheckedDataset(origin_run_id=job.origin_run_id, dataset=dataset).model_dump_json()
        try:
            self._bucket.put(
                build_checked_dataset_key(job.job_id), content.encode(), content_type="application/json"
            )
        except StoreRefusal as error:
            log.warning("Could not store the dataset that job %s starts with: %s", job.job_id, error)

    def load(self, job: ResolvedJob) -> DatasetReference | None:
        """Return the dataset that this training run started with; None if none is stored for it.

        Raises StoreErrors.
        """
        key = build_checked_dataset_key(job.job_id)
        stored = self._bucket.read(key, REPORT_BYTES, _CheckedDataset.model_validate_json)
        if stored is None:
            return None
        expected = (job.origin_run_id, job.spec.dataset, job.spec.task)
        found = (stored.origin_run_id, stored.dataset.parameter, stored.dataset.task)
        return stored.dataset if found == expected else None
