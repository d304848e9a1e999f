"""Training jobs: the list, a single job, its epochs, and related jobs."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, Field, TypeAdapter

from include.api.access import require_can_see_runs
from include.api.bodies import ResponseBody
from include.api.database import Database, open_database
from include.api.deployment import CurrentSettings, InteractiveBucket
from include.api.job_response import (
    TrainingJobResponse,
    build_response,
    build_responses,
    escape_row,
)
from include.api.pages import Cursor, Limit, decode_cursor, encode_cursor
from include.api.problems import ProblemError, describe_errors
from include.datasets.reference import ClassCount
from include.jobs.job import TRAINING_DAG, RecordedEpoch, TrainingJob
from include.jobs.listing import (
    JobFilter,
    JobListing,
    Lineage,
    PagePosition,
    RelatedJob,
)
from include.jobs.repository import JobRepository
from include.plain_text import escape_model
from include.reports.report import DatasetReport, ReportStore

router = APIRouter(prefix="/jobs", tags=["jobs"], dependencies=[require_can_see_runs(TRAINING_DAG)])

JobId = Annotated[str, Path(description="Id of the job, percent-encoded.")]


def _require_job(job_id: JobId) -> TrainingJob:
    with open_database() as database:
        return JobListing(database).require(job_id)


FoundJob = Annotated[TrainingJob, Depends(_require_job)]
"""The job in the URL; no database connection is held while the route waits for S3 or events."""

_POSITION = TypeAdapter(PagePosition)


class JobsQuery(JobFilter):
    """Query parameters for listing jobs."""

    limit: Limit = 25
    """Page size."""
    cursor: Cursor | None = None
    """Where the page begins; None for the first page."""


class EpochsQuery(BaseModel):
    """Query parameters for listing epochs."""

    after: int = Field(-1, ge=-1, le=2**31 - 1, description="Only epochs after this one, counted from 0.")
    limit: int = Field(1000, ge=1, le=5000, description="Maximum number of epochs per page.")


class JobsPage(ResponseBody):
    """Jobs, the newest first."""

    jobs: list[TrainingJobResponse]
    """The jobs on this page."""
    next: str | None
    """Cursor of the next page; null on the last page."""
    total: int
    """Number of matching jobs on all pages."""
    total_is_estimate: bool
    """True if `total` is the database's estimate instead of a count: if there are more than 10,000 matches,
    or if the database expects more than 100,000."""


class EpochsPage(ResponseBody):
    """Finished epochs in order."""

    epochs: list[RecordedEpoch]
    """The epochs on this page."""
    next: int | None
    """The `after` of the next page; null on the last page."""


class ClassTable(ResponseBody):
    """How often each class occurs in a job's dataset."""

    classes: list[ClassCount] | None
    """In the order of the class ids; null until the dataset has been checked."""


@router.get("")
def list_jobs(
    query: Annotated[JobsQuery, Query()], database: Database, settings: CurrentSettings
) -> JobsPage:
    """List training jobs, the newest first."""
    before = decode_cursor(query.cursor, _POSITION)
    page = JobListing(database).find_page(query, query.limit, before)
    return JobsPage(
        jobs=build_responses(page.jobs, database, settings.bucket),
        next=encode_cursor(*page.next) if page.next else None,
        total=page.total.number,
        total_is_estimate=page.total.is_estimate,
    )


@router.get("/{job_id}", responses=describe_errors(HTTPStatus.NOT_FOUND))
def get_job(job_id: JobId, database: Database, settings: CurrentSettings) -> TrainingJobResponse:
    """Return one job with its checkpoints, its progress, and the machine of its newest attempt."""
    return build_response(JobListing(database).require(job_id), database, settings.bucket)


@router.get("/{job_id}/epochs", responses=describe_errors(HTTPStatus.NOT_FOUND))
def list_epochs(job_id: JobId, query: Annotated[EpochsQuery, Query()], database: Database) -> EpochsPage:
    """Return the metrics and durations of the finished epochs."""
    JobListing(database).require(job_id)
    found = JobRepository(database).list_epochs(job_id, query.after, limit=query.limit + 1)
    page = found[: query.limit]
    return EpochsPage(epochs=page, next=page[-1].epoch if len(found) > query.limit else None)


@router.get("/{job_id}/dataset-report", responses=describe_errors(HTTPStatus.NOT_FOUND))
def get_dataset_report(job: FoundJob, bucket: InteractiveBucket) -> DatasetReport:
    """Return the result of the dataset check: problems, warnings, and how often each class occurs."""
    report = ReportStore(bucket).fetch(job.job_id)
    if report is None:
        raise ProblemError(
            HTTPStatus.NOT_FOUND,
            f"job_id={job.job_id!r} has no dataset report: its dataset has not been checked yet, or the "
            "report was removed. To create a report for a job without a checkpoint, clear the run's task "
            "check_dataset",
        )
    return report


@router.get("/{job_id}/class-table", responses=describe_errors(HTTPStatus.NOT_FOUND))
def get_class_table(job_id: JobId, database: Database) -> ClassTable:
    """Return how often each class occurs in the dataset that the job trains on."""
    JobListing(database).require(job_id)
    found = JobRepository(database).get_class_table(job_id)
    return ClassTable(classes=found and [escape_model(count) for count in found])


@router.get("/{job_id}/lineage", responses=describe_errors(HTTPStatus.NOT_FOUND))
def get_lineage(job_id: JobId, database: Database) -> Lineage:
    """Return the job, its ancestors and its descendants, but no other related jobs."""
    found = JobListing(database).find_lineage(job_id)
    shown = [RelatedJob.model_validate(escape_row(dict(related))) for related in found.jobs]
    return Lineage(jobs=shown, truncated=found.truncated)
