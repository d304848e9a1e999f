"""Stores the report of a dataset check in S3."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from include.datasets.errors import DatasetError
from include.deployment.connections import open_bucket
from include.reports.report import ReportStore, report_on
from include.s3.deadline import Deadline, obey_deadlines

if TYPE_CHECKING:
    from include.claim.resolved_job import ResolvedJob
    from include.datasets.check import CheckedDataset
    from include.deployment.settings import Settings

log = logging.getLogger(__name__)

_SECONDS = 30.0


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
        with Deadline(_SECONDS).applied():
            return ReportStore(bucket).store(report)
    except Exception as problem:
        log.warning("Could not store the report on the dataset of job %s: %s", job.job_id, problem)
        return None
