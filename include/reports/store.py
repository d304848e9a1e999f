"""Stores reports of dataset checks in one bucket: for jobs, even failed ones, and registered datasets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from include.limits import REPORT_BYTES
from include.reports.report import DatasetReport
from include.s3.layout import build_dataset_report_key, build_version_report_key
from include.s3.location import JOB_ID

if TYPE_CHECKING:
    from include.s3.bucket import Bucket


class ReportStore:
    """The newest reports in one bucket: one for each job, and one for each fingerprint and task."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def store(self, report: DatasetReport) -> str:
        """Store the report on the dataset of a job or of a registration, and return its s3:// URI.

        Raises StoreErrors, and ValueError for a registration whose check failed.
        """
        metadata = {"run-id": quote(report.run_id)}
        if report.job_id is not None:
            key = build_dataset_report_key(report.job_id)
            metadata["job-id"] = report.job_id
        elif report.fingerprint is not None:
            key = build_version_report_key(report.fingerprint, report.task)
        else:
            raise ValueError("a dataset that failed its check cannot be registered")
        content = report.model_dump_json(indent=1).encode()
        self._bucket.put(key, content, content_type="application/json", metadata=metadata)
        return self._bucket.at(key).uri

    def fetch(self, job_id: str) -> DatasetReport | None:
        """Return the job's report; None if it is missing, invalid or too large. Raises StoreErrors."""
        if not re.fullmatch(JOB_ID, job_id):
            return None
        return self._bucket.read(
            build_dataset_report_key(job_id), REPORT_BYTES, DatasetReport.model_validate_json
        )
