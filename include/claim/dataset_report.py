"""The report of a dataset check goes to S3; where that does not work, the check's own error stays."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from include.datasets.errors import DatasetError
from include.deployment.connections import open_bucket
from include.reports.report import report_on
from include.reports.store import ReportStore
from include.s3.deadline import Deadline, obey_deadlines

if TYPE_CHECKING:
    from include.claim.resolved_job import ResolvedJob
    from include.deployment.settings import Settings

log = logging.getLogger(__name__)

_SECONDS = 30.0


def attach_report(error: DatasetError, job: ResolvedJob, settings: Settings) -> DatasetError:
    """Store all that a check found, and return its error with the address; as it is if that fails."""
    if not error.findings:
        return error
    report = report_on(
        error, job_id=job.job_id, run_id=job.run_id, dataset=job.spec.dataset, task=job.spec.task
    )
    try:
        bucket = open_bucket(settings, interactive=True)
        obey_deadlines(bucket.client)
        with Deadline(_SECONDS).applied():
            uri = ReportStore(bucket).store(report)
    except Exception as problem:  # whatever it is, the user is to see what is wrong with the data
        log.warning("The report of the check of job %s was not stored: %s", job.job_id, problem)
        return error
    return DatasetError(f"{error}\nThe whole report: {uri}", error.findings)
