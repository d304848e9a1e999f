"""Training jobs: the list of them, one of them, its epochs, and the jobs that it is related to."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, Field, TypeAdapter

from include.api.access import may_see_runs_of
from include.api.database import Database, connected  # noqa: TC001 - FastAPI reads annotations at run time
from include.api.job_response import (
    TrainingJobResponse,
    escape_row,
    has_report,
    response_of,
    responses_of,
)
from include.api.pages import Cursor, Limit, cursor_at, place_of
from include.api.problems import Refused, responses
from include.deployment.connections import open_bucket
from include.deployment.settings import Settings
from include.jobs.job import TRAINING_DAG, JobStatus, RecordedEpoch, TrainingJob
from include.jobs.listing import (
    LONGEST_FILTER,
    JobFilter,
    JobListing,
    Lineage,
    Place,
    RelatedJob,
)
from include.jobs.repository import JobRepository
from include.reports.report import DatasetReport  # noqa: TC001 - FastAPI reads annotations at run time
from include.reports.store import ReportStore

router = APIRouter(prefix="/jobs", tags=["jobs"], dependencies=[may_see_runs_of(TRAINING_DAG)])

JobId = Annotated[str, Path(description="Of the job; percent-encoded if a platform gave it.")]


def _found(job_id: JobId) -> TrainingJob:
    with connected() as database:
        return JobListing(database).require(job_id)


FoundJob = Annotated[TrainingJob, Depends(_found)]
"""The job of the address, for routes that wait for something else: no connection is kept meanwhile."""

_PLACE = TypeAdapter(Place)


class JobsQuery(BaseModel):
    """Which jobs to list."""

    status: JobStatus | None = None
    dataset: str | None = Field(None, max_length=LONGEST_FILTER, description="Jobs trained on this one only.")
    model: str | None = Field(None, max_length=LONGEST_FILTER, description="Jobs that train this one only.")
    prefix: str | None = Field(
        None, max_length=LONGEST_FILTER, description="What the id of the job begins with."
    )
    dag_id: str | None = Field(None, max_length=LONGEST_FILTER, description="Jobs of runs of this Dag only.")
    run_id: str | None = Field(None, max_length=LONGEST_FILTER, description="Jobs of this Dag run only.")
    archived: bool | None = Field(None, description="Archived jobs only, or those only that are not.")
    limit: Limit = 25
    cursor: Cursor | None = None


class EpochsQuery(BaseModel):
    """Which epochs to list."""

    after: int = Field(-1, ge=-1, le=2**31 - 1, description="Epochs after this one, from 0.")
    limit: int = Field(1000, ge=1, le=5000, description="Epochs in a page.")


class JobsPage(BaseModel):
    """Jobs, the newest first; next is the cursor of the page after this one, null on the last page.

    total is how many there are on all pages together, exactly up to 10,000, beyond that an estimate.
    """

    jobs: list[TrainingJobResponse]
    next: str | None
    total: int
    total_is_estimate: bool


class EpochsPage(BaseModel):
    """Finished epochs in order; next is the `after` of the page after this one, null on the last page."""

    epochs: list[RecordedEpoch]
    next: int | None


@router.get("")
def list_jobs(asked: Annotated[JobsQuery, Query()], database: Database) -> JobsPage:
    """List training jobs, the newest first."""
    before = place_of(asked.cursor, _PLACE)
    wanted = JobFilter(**asked.model_dump(exclude={"limit", "cursor"}))
    page = JobListing(database).page(wanted, asked.limit, before)
    return JobsPage(
        jobs=responses_of(page.jobs, database),
        next=cursor_at(*page.next) if page.next else None,
        total=page.total.number,
        total_is_estimate=page.total.is_estimate,
    )


@router.get("/{job_id}", responses=responses(HTTPStatus.NOT_FOUND))
def get_job(job_id: JobId, database: Database) -> TrainingJobResponse:
    """Return one job, with its checkpoints, its progress and where it runs."""
    return response_of(JobListing(database).require(job_id), database)


@router.get("/{job_id}/epochs", responses=responses(HTTPStatus.NOT_FOUND))
def list_epochs(job_id: JobId, asked: Annotated[EpochsQuery, Query()], database: Database) -> EpochsPage:
    """Return the numbers of each finished epoch."""
    JobListing(database).require(job_id)
    found = JobRepository(database).epochs(job_id, asked.after, limit=asked.limit + 1)
    page = found[: asked.limit]
    return EpochsPage(epochs=page, next=page[-1].epoch if len(found) > asked.limit else None)


@router.get("/{job_id}/dataset-report", responses=responses(HTTPStatus.NOT_FOUND))
def get_dataset_report(job: FoundJob) -> DatasetReport:
    """Return all that is wrong with the job's dataset; its `error` is a summary."""
    settings = Settings.from_environment()
    report = None
    if has_report(job, settings.bucket):
        report = ReportStore(open_bucket(settings, interactive=True)).fetch(job.job_id)
    if report is None:
        raise Refused(
            HTTPStatus.NOT_FOUND,
            f"job_id={job.job_id!r} has no dataset report: its check found nothing, or the report was "
            "removed; clear the run's task check_dataset to create it again",
        )
    return report


@router.get("/{job_id}/lineage", responses=responses(HTTPStatus.NOT_FOUND))
def get_lineage(job_id: JobId, database: Database) -> Lineage:
    """Return what the job goes on from and what goes on from it: parents, children, and theirs."""
    found = JobListing(database).lineage(job_id)
    shown = [RelatedJob.model_validate(escape_row(dict(related))) for related in found.jobs]
    return Lineage(jobs=shown, truncated=found.truncated)
