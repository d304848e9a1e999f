"""Reads many jobs at once, as people and pages ask for them; what writes them is the JobRepository."""

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
"""Matches are counted one by one up to EXACT_UP_TO; not at all where the planner expects many more."""
SORTED_UP_TO = 300_000
"""Up to so many matches of a prefix are found and sorted: ids begin with a date, so all may be old ones."""
CURVE_POINTS = 32
CHILDREN_SHOWN = 20
LINEAGE_SHOWN = 200
LONGEST_FILTER = 250
"""Characters. Names of datasets and models are indexed by as many: an entry of an index has to be short."""


class JobUnknown(FinalError):
    """There is no job of this id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job_id={job_id!r:.200} does not exist; GET /jobs lists all jobs")


class Place(NamedTuple):
    """Where a job is in the list: its creation as the database writes it, and its id."""

    created_at: str
    job_id: str


@dataclass(frozen=True)
class JobFilter:
    """Which jobs; a field that is None holds for every job."""

    status: JobStatus | None = None
    """Their status."""
    dataset: str | None = None
    """The dataset of their spec, written alike."""
    model: str | None = None
    """The model of their spec, written alike."""
    prefix: str | None = None
    """What their ids begin with."""
    dag_id: str | None = None
    """Dag of the run that owns them."""
    run_id: str | None = None
    """Run that owns them."""
    archived: bool | None = None
    """Whether they are archived."""


@dataclass(frozen=True)
class JobTotal:
    """How many jobs match."""

    number: int
    """The number, or an estimate that is never below EXACT_UP_TO."""
    is_estimate: bool
    """Whether it was estimated."""


@dataclass(frozen=True)
class JobPage:
    """Some of the jobs that match, the newest first."""

    jobs: Sequence[TrainingJob]
    """Their rows."""
    next: Place | None
    """Place of the last one; None where no jobs come after it."""
    total: JobTotal
    """How many match in all."""


class RelatedJob(BaseModel):
    """A job as one of a lineage. fine_tuned says that it began with its parent's best.pt."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    parent_job_id: str | None
    resumed_epoch: int | None
    fine_tuned: bool
    status: str | None
    epoch: int | None
    epochs: int | None
    spec: JsonObject = Field(exclude=True)
    metrics: JsonObject
    created_at: datetime | None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def model(self) -> str | None:
        """What was trained."""
        return named(self.spec, "model")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def dataset(self) -> str | None:
        """What it was trained on."""
        return named(self.spec, "dataset")


class Lineage(BaseModel):
    """Jobs that go on from each other, the oldest first; truncated says that there are more, farther away."""

    model_config = ConfigDict(frozen=True)

    jobs: list[RelatedJob]
    truncated: bool


def named(spec: Mapping[str, Any] | None, name: str) -> str | None:
    """Return that parameter of the job, if it is a text: a platform may have written anything."""
    value = (spec or {}).get(name)
    return value if isinstance(value, str) else None


@dataclass(frozen=True)
class JobDetails:
    """What is known of a job beside its row."""

    epoch: int | None = None
    """Last recorded epoch; None before there is one."""
    seconds: float | None = None
    """What that epoch took."""
    eta_seconds: float | None = None
    """What the remaining epochs were expected to take when it ended."""
    recorded_at: datetime | None = None
    """When it was recorded."""
    curve: Sequence[float | None] = ()
    """Fitness of at most CURVE_POINTS epochs, evenly spaced from the first to the last one; None where it is
    not known."""
    children: Sequence[str] = ()
    """Newest jobs that continue this one."""


class JobListing:
    """Reads jobs over one psycopg connection, which stays the caller's to close.

    Each method is one transaction, or a part of the caller's where one is open.
    """

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection, self._statements = connection, Statements(connection)

    def require(self, job_id: str) -> TrainingJob:
        """Return the job. Raises JobUnknown."""
        job = JobRepository(self._connection).get(job_id)
        if job is None:
            raise JobUnknown(job_id)
        return job

    def page(self, wanted: JobFilter, limit: int, before: Place | None = None) -> JobPage:
        """Return jobs, the newest first. before is the place of the last one of the page before this."""
        values = _values(wanted)
        with self._connection.transaction():
            expected = self._expected(values)
            sorting = wanted.prefix is not None and expected <= SORTED_UP_TO
            found = self._statements.rows(
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
                total = self._total(values, expected)
            shown = [Place(row.created_at, row.job_id) for row in found[:limit]]
            return JobPage(self._jobs(shown), shown[-1] if more else None, total)

    def _jobs(self, places: Sequence[Place]) -> list[TrainingJob]:
        """Those that are still there, in this order."""
        rows = self._statements.rows("get_jobs", job_ids=[place.job_id for place in places])
        jobs = {row.job_id: TrainingJob.model_validate(row._asdict()) for row in rows}
        return [jobs[place.job_id] for place in places if place.job_id in jobs]

    def _total(self, values: Mapping[str, Any], expected: int) -> JobTotal:
        """Count the matches, unless there are many more than are counted, by what the planner expects."""
        if expected <= FAR_TOO_MANY:
            (counted,) = self._statements.row("count_jobs", limit=EXACT_UP_TO + 1, **values)
            if counted <= EXACT_UP_TO:
                return JobTotal(counted, is_estimate=False)
        return JobTotal(max(EXACT_UP_TO, expected), is_estimate=True)

    def _expected(self, values: Mapping[str, Any]) -> int:
        ((plan,),) = self._statements.row("estimate_jobs", **values)
        return int(plan["Plan"]["Plan Rows"])

    def details(self, job_ids: Sequence[str]) -> dict[str, JobDetails]:
        """Return, by the id of each job, what is known beside its row."""
        with self._connection.transaction():
            rows = self._statements.rows(
                "find_job_details", job_ids=list(job_ids), points=CURVE_POINTS, children=CHILDREN_SHOWN
            )
        return {
            row.job_id: JobDetails(
                row.epoch, row.seconds, row.eta_seconds, row.recorded_at, row.curve, row.children
            )
            for row in rows
        }

    def lineage(self, job_id: str) -> Lineage:
        """Return the job with its ancestors and descendants. Raises JobUnknown."""
        with self._connection.transaction():
            rows = self._statements.rows("find_lineage", job_id=job_id, limit=LINEAGE_SHOWN)
        if not rows:
            raise JobUnknown(job_id)
        jobs = [RelatedJob.model_validate(row._asdict()) for row in rows]
        return Lineage(jobs=jobs, truncated=rows[0].truncated)


def _values(wanted: JobFilter) -> dict[str, Any]:
    values = asdict(wanted)
    prefix = values.pop("prefix")
    return values | {"any_status": wanted.status is None, "pattern": prefix and _beginning_with(prefix)}


def _beginning_with(prefix: str) -> str:
    """Return the pattern for LIKE."""
    return re.sub(r"([\\%_])", r"\\\1", prefix) + "%"
