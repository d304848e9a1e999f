"""Lists jobs and their relations for the API and the console."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, computed_field

from include.database import Statements
from include.errors import NotFound
from include.jobs.job import JobStatus, JsonObject, TrainingJob
from include.jobs.repository import JobRepository

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg import Connection

EXACT_UP_TO = 10_000
FAR_TOO_MANY = 10 * EXACT_UP_TO
"""Up to EXACT_UP_TO matches are counted exactly. If PostgreSQL's planner expects more than FAR_TOO_MANY, its
estimate is used without counting."""
SORTED_UP_TO = 300_000
"""Up to this number, all matches of a prefix are read and then sorted. If ids begin with a date, all matches
may be old, and a scan that starts with the newest job would find them last."""
CURVE_POINTS = 32
CHILDREN_SHOWN = 20
LINEAGE_SHOWN = 200
MAX_FILTER_LENGTH = 250
"""Maximum length in characters. Only this much of a name is indexed, because index entries must be short."""

_Text = Annotated[str, Field(max_length=MAX_FILTER_LENGTH)]


class JobUnknown(NotFound):
    """The job does not exist."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job_id={job_id!r:.200} does not exist; GET /jobs lists all jobs")


class PagePosition(NamedTuple):
    """Position of a job in the list."""

    created_at: str
    """When the job's row was created, as the database writes it; -infinity if that is unknown."""
    job_id: str
    """Decides between jobs that were created at the same time."""


class JobFilter(BaseModel):
    """Filter for jobs; a field that is None matches every job."""

    model_config = ConfigDict(frozen=True)

    status: JobStatus | None = Field(None, description="Only jobs with this status.")
    dataset: _Text | None = Field(None, description="Only jobs whose `dataset` is exactly this.")
    model: _Text | None = Field(None, description="Only jobs whose `model` is exactly this.")
    prefix: _Text | None = Field(None, description="Only jobs whose id starts with this.")
    dag_id: _Text | None = Field(None, description="Only jobs whose runs belong to this Dag.")
    run_id: _Text | None = Field(None, description="Only jobs of this Dag run.")
    archived: bool | None = Field(
        None, description="Only archived jobs (true), or only jobs that are not archived (false)."
    )


@dataclass(frozen=True)
class JobTotal:
    """The number of jobs that match."""

    number: int
    """The number, or an estimate that is never below EXACT_UP_TO."""
    is_estimate: bool
    """Whether the number is an estimate."""


@dataclass(frozen=True)
class JobPage:
    """One page of the matching jobs, the newest first."""

    jobs: Sequence[TrainingJob]
    """Rows of the jobs."""
    next: PagePosition | None
    """Position of the last job on the page; None on the last page."""
    total: JobTotal
    """Number of all matching jobs."""


class RelatedJob(BaseModel):
    """A job within a lineage."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    job_id: str
    """Name of the job."""
    parent_job_id: str | None
    """Job that this job continues, or whose weights it started from."""
    resumed_epoch: int | None
    """The parent's epoch, counted from 0, after which this job continues; null if it does not continue
    another job."""
    fine_tuned: bool
    """Whether the job started from its parent's best.pt."""
    status: str | None
    """A JobStatus, or whatever a host application wrote."""
    epoch: int | None
    """Last finished epoch, counted from 0."""
    epochs: int | None
    """Planned number of epochs."""
    spec: JsonObject = Field(exclude=True)
    """The parameters, from which `model` and `dataset` are taken."""
    metrics: JsonObject
    """Metrics of the last epoch or, once both checkpoints are recorded, of best.pt."""
    created_at: datetime | None
    """When the row was created."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def model(self) -> str | None:
        """The model that was trained."""
        return read_text_parameter(self.spec, "model")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def dataset(self) -> str | None:
        """The dataset on which the model was trained."""
        return read_text_parameter(self.spec, "dataset")


class Lineage(BaseModel):
    """A job with its ancestors and descendants."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    jobs: list[RelatedJob]
    """The jobs, oldest first."""
    truncated: bool
    """Whether more distant jobs were omitted."""


def read_text_parameter(spec: Mapping[str, Any] | None, name: str) -> str | None:
    """Return the parameter, or None if it is not a string: a host application may have written anything."""
    value = (spec or {}).get(name)
    return value if isinstance(value, str) else None


@dataclass(frozen=True)
class JobDetails:
    """Facts about a job that its row does not contain."""

    job_id: str
    """Name of the job."""
    seconds: float | None
    """Duration of the last recorded epoch; None, like the next two, if no epoch is recorded."""
    eta_seconds: float | None
    """Expected time from the end of the last recorded epoch to the end of the job, including the time until
    its newest attempt started. Also None if a parent trained the last epoch."""
    recorded_at: datetime | None
    """When the last recorded epoch was recorded."""
    gpu_seconds: float | None
    """Total GPU time of the job's attempts; None if it is not known."""
    curve: Sequence[float | None]
    """Fitness of at most CURVE_POINTS epochs, evenly spaced from the first to the last; None for an unknown
    fitness."""
    children: Sequence[str]
    """The newest jobs whose parent is this job."""


class JobListing:
    """Reads jobs over one psycopg connection, which the caller closes.

    Each method is one transaction, or part of the caller's transaction if one is open.
    """

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection, self._statements = connection, Statements(connection)

    def require(self, job_id: str) -> TrainingJob:
        """Return the job. Raises JobUnknown."""
        job = JobRepository(self._connection).get(job_id)
        if job is None:
            raise JobUnknown(job_id)
        return job

    def find_page(self, wanted: JobFilter, limit: int, before: PagePosition | None = None) -> JobPage:
        """Return one page of jobs, the newest first, after the job at position `before`."""
        values = wanted.model_dump(include=set(JobFilter.model_fields)) | {
            "any_status": wanted.status is None,
            "pattern": build_pattern(wanted.prefix),
        }
        with self._connection.transaction():
            expected = self._estimate_matches(values)
            sorting = wanted.prefix is not None and expected <= SORTED_UP_TO
            found = self._statements.fetch_all(
                "list_matching_jobs" if sorting else "list_jobs",
                first_page=before is None,
                before_created_at=before.created_at if before else "-infinity",
                before_job_id=before.job_id if before else "",
                limit=limit + 1,
                **values,
            )
            more = len(found) > limit
            if not more and before is None:
                total = JobTotal(len(found), is_estimate=False)
            else:
                total = self._count_matches(values, expected)
            shown = [PagePosition(row.created_at, row.job_id) for row in found[:limit]]
            return JobPage(self._read_jobs(shown), shown[-1] if more else None, total)

    def _read_jobs(self, positions: Sequence[PagePosition]) -> list[TrainingJob]:
        """Return the jobs that still exist, in the order of `positions`."""
        rows = self._statements.fetch_all("get_jobs", job_ids=[position.job_id for position in positions])
        jobs = {row.job_id: TrainingJob.model_validate(row._asdict()) for row in rows}
        return [jobs[position.job_id] for position in positions if position.job_id in jobs]

    def _count_matches(self, values: Mapping[str, Any], expected: int) -> JobTotal:
        """Count the matches, or estimate their number if there are too many to count."""
        if expected <= FAR_TOO_MANY:
            (counted,) = self._statements.fetch_one("count_jobs", limit=EXACT_UP_TO + 1, **values)
            if counted <= EXACT_UP_TO:
                return JobTotal(counted, is_estimate=False)
        return JobTotal(max(EXACT_UP_TO, expected), is_estimate=True)

    def _estimate_matches(self, values: Mapping[str, Any]) -> int:
        ((plan,),) = self._statements.fetch_one("estimate_jobs", **values)
        return int(plan["Plan"]["Plan Rows"])

    def find_details(self, job_ids: Sequence[str]) -> dict[str, JobDetails]:
        """Return the details of each job, known or not, by its id."""
        with self._connection.transaction():
            rows = self._statements.fetch_all(
                "find_job_details", job_ids=list(job_ids), points=CURVE_POINTS, children=CHILDREN_SHOWN
            )
        return {row.job_id: JobDetails(**row._asdict()) for row in rows}

    def find_lineage(self, job_id: str) -> Lineage:
        """Return the job with its ancestors and descendants. Raises JobUnknown."""
        with self._connection.transaction():
            rows = self._statements.fetch_all("find_lineage", job_id=job_id, limit=LINEAGE_SHOWN)
        if not rows:
            raise JobUnknown(job_id)
        jobs = [RelatedJob.model_validate(row._asdict()) for row in rows]
        return Lineage(jobs=jobs, truncated=rows[0].truncated)


def build_pattern(prefix: str | None) -> str | None:
    """Return the LIKE pattern that matches this prefix; None if no prefix is given."""
    return None if prefix is None else re.sub(r"([\\%_])", r"\\\1", prefix) + "%"
