"""Listing jobs and their relations, for the API and the console; JobRepository writes jobs."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, computed_field

from include.database import Statements
from include.errors import FinalError
from include.jobs.job import JsonObject, TrainingJob
from include.jobs.repository import JobRepository

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg import Connection

    from include.jobs.job import JobStatus

EXACT_UP_TO = 10_000
FAR_TOO_MANY = 10 * EXACT_UP_TO
"""Up to EXACT_UP_TO matches are counted exactly. If the planner expects more than FAR_TOO_MANY, the matches
are not counted, and its estimate is used."""
SORTED_UP_TO = 300_000
"""Up to this number, all matches of a prefix are read and then sorted. If ids begin with a date, all matches
may be old, and a scan that starts with the newest job would find them last."""
CURVE_POINTS = 32
CHILDREN_SHOWN = 20
LINEAGE_SHOWN = 200
MAX_FILTER_LENGTH = 250
"""Maximum length in characters. Only this much of a name is indexed, because index entries must be short."""


class JobUnknown(FinalError):
    """The job does not exist."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job_id={job_id!r:.200} does not exist; GET /jobs lists all jobs")


class PagePosition(NamedTuple):
    """Position of a job in the list: its creation time as the database writes it, and its id."""

    created_at: str
    job_id: str


@dataclass(frozen=True)
class JobFilter:
    """Filter for jobs; a field that is None matches every job."""

    status: JobStatus | None = None
    """The job's status."""
    dataset: str | None = None
    """Dataset in the job's spec; must match exactly."""
    model: str | None = None
    """Model in the job's spec; must match exactly."""
    prefix: str | None = None
    """Prefix of the job's id."""
    dag_id: str | None = None
    """Dag of the run that owns the job."""
    run_id: str | None = None
    """Run that owns the job."""
    archived: bool | None = None
    """Whether the job is archived."""


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

    model_config = ConfigDict(frozen=True)

    job_id: str
    parent_job_id: str | None
    resumed_epoch: int | None
    fine_tuned: bool = Field(description="Whether the job started from its parent's best.pt.")
    status: str | None
    epoch: int | None
    epochs: int | None
    spec: JsonObject = Field(exclude=True)
    metrics: JsonObject
    created_at: datetime | None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def model(self) -> str | None:
        """The model that was trained."""
        return text_parameter(self.spec, "model")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def dataset(self) -> str | None:
        """The dataset on which the model was trained."""
        return text_parameter(self.spec, "dataset")


class Lineage(BaseModel):
    """A job with its ancestors and descendants."""

    model_config = ConfigDict(frozen=True)

    jobs: list[RelatedJob] = Field(description="The jobs, oldest first.")
    truncated: bool = Field(description="Whether more distant jobs were omitted.")


def text_parameter(spec: Mapping[str, Any] | None, name: str) -> str | None:
    """Return the parameter, or None if it is not a string: a host application may have written anything."""
    value = (spec or {}).get(name)
    return value if isinstance(value, str) else None


@dataclass(frozen=True)
class JobDetails:
    """Facts about a job that its row does not contain."""

    epoch: int | None = None
    """Last recorded epoch; None if no epoch is recorded."""
    seconds: float | None = None
    """Duration of the last recorded epoch."""
    eta_seconds: float | None = None
    """Expected duration of the remaining epochs, from the end of the last recorded epoch."""
    recorded_at: datetime | None = None
    """When the last recorded epoch was recorded."""
    gpu_seconds: float | None = None
    """Total GPU time of the job's attempts; None if it is not known."""
    curve: Sequence[float | None] = ()
    """Fitness of at most CURVE_POINTS epochs, evenly spaced from the first to the last one; None where it is
    not known."""
    children: Sequence[str] = ()
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

    def page(self, wanted: JobFilter, limit: int, before: PagePosition | None = None) -> JobPage:
        """Return one page of jobs, the newest first, after the job at position `before`."""
        values = _query_values(wanted)
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
            return JobPage(self._jobs(shown), shown[-1] if more else None, total)

    def _jobs(self, positions: Sequence[PagePosition]) -> list[TrainingJob]:
        """Return the jobs that still exist, in the order of `positions`."""
        rows = self._statements.fetch_all("get_jobs", job_ids=[position.job_id for position in positions])
        jobs = {row.job_id: TrainingJob.model_validate(row._asdict()) for row in rows}
        return [jobs[position.job_id] for position in positions if position.job_id in jobs]

    def _count_matches(self, values: Mapping[str, Any], expected: int) -> JobTotal:
        """Count the matches, or estimate their number if the planner expects too many to count."""
        if expected <= FAR_TOO_MANY:
            (counted,) = self._statements.fetch_one("count_jobs", limit=EXACT_UP_TO + 1, **values)
            if counted <= EXACT_UP_TO:
                return JobTotal(counted, is_estimate=False)
        return JobTotal(max(EXACT_UP_TO, expected), is_estimate=True)

    def _estimate_matches(self, values: Mapping[str, Any]) -> int:
        ((plan,),) = self._statements.fetch_one("estimate_jobs", **values)
        return int(plan["Plan"]["Plan Rows"])

    def details(self, job_ids: Sequence[str]) -> dict[str, JobDetails]:
        """Return the details of each job by its id."""
        with self._connection.transaction():
            rows = self._statements.fetch_all(
                "find_job_details", job_ids=list(job_ids), points=CURVE_POINTS, children=CHILDREN_SHOWN
            )
        details = {}
        for row in rows:
            values = row._asdict()
            job_id = values.pop("job_id")
            details[job_id] = JobDetails(**values)
        return details

    def lineage(self, job_id: str) -> Lineage:
        """Return the job with its ancestors and descendants. Raises JobUnknown."""
        with self._connection.transaction():
            rows = self._statements.fetch_all("find_lineage", job_id=job_id, limit=LINEAGE_SHOWN)
        if not rows:
            raise JobUnknown(job_id)
        jobs = [RelatedJob.model_validate(row._asdict()) for row in rows]
        return Lineage(jobs=jobs, truncated=rows[0].truncated)


def _query_values(wanted: JobFilter) -> dict[str, Any]:
    values = asdict(wanted)
    prefix = values.pop("prefix")
    return values | {"any_status": wanted.status is None, "pattern": prefix and pattern_of(prefix)}


def pattern_of(prefix: str) -> str:
    """Return the LIKE pattern that matches this prefix."""
    return re.sub(r"([\\%_])", r"\\\1", prefix) + "%"
