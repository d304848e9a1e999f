"""Stores in S3 what the check of a job's dataset found: the report, and the dataset that the job starts with.

The dataset is stored at `datasets/jobs/{job_id}.json`. A training run may be resumed by another Dag run, or
after `check_dataset` was cleared. It then uses this dataset, even if the content of its source has changed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from include.datasets.errors import DatasetError
from include.datasets.reference import DatasetReference
from include.deployment.connections import open_bucket
from include.limits import REPORT_BYTES
from include.reports.report import ReportStore, report_on
from include.s3.deadline import Deadline, obey_deadlines
from include.s3.errors import StoreRefusal
from include.s3.layout import build_checked_dataset_key

if TYPE_CHECKING:
    from include.claim.resolved_job import ResolvedJob
    from include.datasets.check import CheckedDataset
    from include.deployment.settings import Settings
    from include.s3.bucket import Bucket

log = logging.getLogger(__name__)

_REPORT_SECONDS = 30.0
"""Maximum time for storing a report."""


class _StoredDataset(BaseModel):
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
        content = _StoredDataset(origin_run_id=job.origin_run_id, dataset=dataset).model_dump_json()
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
        stored = self._bucket.read(key, REPORT_BYTES, _StoredDataset.model_validate_json)
        if stored is None:
            return None
        expected = (job.origin_run_id, job.spec.dataset, job.spec.task)
        found = (stored.origin_run_id, stored.dataset.parameter, stored.dataset.task)
        return stored.dataset if found == expected else None


def attach_report(error: DatasetError, job: ResolvedJob, settings: Settings) -> DatasetError:
    """Store all findings of a check; return the check's error with the report's URI added.

    If the report cannot be stored, return the error unchanged.
    """
    if not error.findings:
        return error
    uri = store_report(error, job, settings)
    if uri is None:
        return error
    return DatasetError(f"{error}\nComplete report: {uri}", error.findings, error.warnings)


def store_report(found: CheckedDataset | DatasetError, job: ResolvedJob, settings: Settings) -> str | None:
    """Store the report on a job's dataset; return the report's URI, or None if it cannot be stored."""
    report = report_on(
        found, job_id=job.job_id, run_id=job.run_id, dataset=job.spec.dataset, task=job.spec.task
    )
    try:
        bucket = open_bucket(settings, interactive=True)
        obey_deadlines(bucket.client)
        with Deadline(_REPORT_SECONDS).applied():
            return ReportStore(bucket).store(report)
    except Exception as problem:
        log.warning("Could not store the report on the dataset of job %s: %s", job.job_id, problem)
        return None
