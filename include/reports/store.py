"""The reports of all jobs in one bucket, at `reports/{job_id}/dataset.json`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from pydantic import ValidationError

from include.limits import REPORT_BYTES
from include.reports.report import DatasetReport
from include.s3.errors import translate_s3_errors
from include.s3.layout import dataset_report_key
from include.s3.location import JOB_ID, S3Location
from include.s3.reading import read_small

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class ReportStore:
    """A job has one report: a check that fails again replaces it."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client, self._bucket = client, bucket

    def store(self, report: DatasetReport) -> str:
        """Store the report and return its s3:// address. Raises StoreErrors."""
        location = report_location(self._bucket, report.job_id)
        with translate_s3_errors(self._client, location):
            self._client.put_object(
                Bucket=location.bucket,
                Key=location.key,
                Body=report.model_dump_json(indent=1).encode(),
                ContentType="application/json",
                Metadata={"job-id": report.job_id, "run-id": quote(report.run_id)},
            )
        return location.uri

    def fetch(self, job_id: str) -> DatasetReport | None:
        """Return the job's report; None where there is none, or no such thing. Raises StoreErrors."""
        if not re.fullmatch(JOB_ID, job_id):
            return None
        content = read_small(self._client, report_location(self._bucket, job_id), REPORT_BYTES)
        if content is None:
            return None
        try:
            return DatasetReport.model_validate_json(content)
        except ValidationError:
            return None


def report_location(bucket: str, job_id: str) -> S3Location:
    """Where the report of a job is."""
    return S3Location(bucket, dataset_report_key(job_id))
