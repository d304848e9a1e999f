"""The complete result of a dataset check. The row of a failed job has only a summary of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from include.datasets.checking.findings import FoundKind, FoundPlace, group
from include.datasets.errors import DatasetError
from include.datasets.reference import ClassCount
from include.limits import FINDINGS, PATH_BYTES, REPORTED_MESSAGE
from include.refusals import shorten
from include.ultralytics_tasks import Task

if TYPE_CHECKING:
    from include.datasets.check import CheckedDataset


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
