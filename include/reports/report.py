"""The complete result of a failed dataset check, of which the job's row has a summary."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel

from include.limits import FINDINGS, PATH_BYTES, REPORTED_MESSAGE
from include.refusals import shorten

if TYPE_CHECKING:
    from include.datasets.errors import DatasetError


class ReportedFinding(BaseModel):
    """One problem of a dataset."""

    file: str
    """Path, relative to the dataset if it is inside it."""
    line: int | None
    """Counted from 1; None if the problem concerns the whole file."""
    message: str


class DatasetReport(BaseModel):
    """The result of a check, with up to FINDINGS problems."""

    job_id: str
    run_id: str
    dataset: str
    task: str
    checked_at: datetime
    problems: int
    """Number of problems found; a check stops when there are very many."""
    omitted: int
    """Number of problems that are not listed here."""
    findings: list[ReportedFinding]


def report_on(error: DatasetError, *, job_id: str, run_id: str, dataset: str, task: str) -> DatasetReport:
    """Return the report of a check that ended with `error`."""
    listed = error.findings[:FINDINGS]
    return DatasetReport(
        job_id=job_id,
        run_id=run_id,
        dataset=dataset,
        task=task,
        checked_at=datetime.now(UTC),
        problems=len(error.findings),
        omitted=len(error.findings) - len(listed),
        findings=[
            ReportedFinding(
                file=shorten(finding.file, PATH_BYTES),
                line=finding.line,
                message=shorten(finding.message, REPORTED_MESSAGE),
            )
            for finding in listed
        ],
    )
