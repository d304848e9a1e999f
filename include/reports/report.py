"""Complete reports of dataset checks, and their store in S3. The row of a failed job has only a summary."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict

from include.datasets.checking.findings import FoundKind, FoundPlace, group
from include.datasets.errors import DatasetError
from include.datasets.reference import ClassCount
from include.limits import FINDINGS, PATH_BYTES, REPORT_BYTES, REPORTED_MESSAGE
from include.refusals import shorten
from include.s3.layout import build_dataset_report_key, build_version_report_key
from include.s3.location import JOB_ID
from include.ultralytics_tasks import Task

if TYPE_CHECKING:
    from include.datasets.check import CheckedDataset
    from include.s3.bucket import Bucket


class ReportedFinding(FoundPlace):
    """One problem of a dataset."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    kind: str = "other"
    """The kind of the problem, as in `errors`."""


class DatasetReport(BaseModel):
    """The result of a check, with up to FINDINGS problems."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    job_id: str | None
    """None if the dataset was checked for registration."""
    run_id: str
    """Dag run whose task checked the dataset."""
    dataset: str
    """The dataset as the user named it."""
    task: Task
    """The task for which the dataset was checked."""
    checked_at: datetime
    """When the check ended."""
    fingerprint: str | None = None
    """Identifies the content; None if the check failed."""
    problems: int
    """Number of problems found; a check stops after FINDINGS problems."""
    errors: list[FoundKind] = []
    """The problems by kind."""
    warnings: list[FoundKind] = []
    """Probable mistakes that do not prevent training, by kind."""
    class_table: list[ClassCount] = []
    """How often each class occurs, in the order of the class ids; empty if the check failed."""
    omitted: int
    """Number of problems that are not among `findings`."""
    findings: list[ReportedFinding]
    """The problems one by one."""


def report_on(
    found: CheckedDataset | DatasetError, *, job_id: str | None, run_id: str, dataset: str, task: Task
) -> DatasetReport:
    """Return the report on a check with the result `found`."""
    problems = found.findings if isinstance(found, DatasetError) else ()
    reference = None if isinstance(found, DatasetError) else found.reference
    listed = problems[:FINDINGS]
    return DatasetReport(
        job_id=job_id,
        run_id=run_id,
        dataset=dataset,
        task=task,
        checked_at=datetime.now(UTC),
        fingerprint=reference.fingerprint if reference else None,
        problems=len(problems),
        errors=list(group(problems)),
        warnings=list(found.warnings),
        class_table=list(reference.class_table or ()) if reference else [],
        omitted=len(problems) - len(listed),
        findings=[
            ReportedFinding(
                file=shorten(finding.file, PATH_BYTES),
                line=finding.line,
                message=shorten(finding.message, REPORTED_MESSAGE),
                kind=finding.kind,
            )
            for finding in listed
        ],
    )


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
