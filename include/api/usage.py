"""GPU hours by user and week, with the quotas that apply to them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from include.api.access import require_can_see_runs
from include.api.bodies import ResponseBody
from include.api.database import Database
from include.api.deployment import CurrentSettings
from include.jobs.job import TRAINING_DAG
from include.jobs.usage import WEEK, JobUsage, UsageRepository, UserGpuUsage, start_of_week
from include.plain_text import escape_model

router = APIRouter(prefix="/usage", tags=["usage"], dependencies=[require_can_see_runs(TRAINING_DAG)])

_JOBS_SHOWN = 200


class UsageQuery(BaseModel):
    """Query parameters for the table of GPU hours."""

    weeks: int = Field(8, ge=1, le=53, description="Number of weeks, including the current week.")


class WeekQuery(BaseModel):
    """Query parameters for listing one user's jobs in one week."""

    user: str | None = Field(
        None, max_length=250, description="User whose jobs are listed; omit it for jobs of unknown users."
    )
    week: date | None = Field(
        None,
        ge=date(2000, 1, 1),
        le=date(2999, 12, 31),
        description="A day in the week; omit it for the current week.",
    )


class UserUsage(UserGpuUsage):
    """One user's GPU hours and GPUs, and the limits on both."""

    quota_gpus: int | None
    """The user's limit on GPUs; null if there is none."""
    quota_gpu_hours: float | None
    """The user's limit on GPU hours; null if there is none."""


class Usage(ResponseBody):
    """GPU hours by user and week."""

    weeks: list[date]
    """The Mondays on which the weeks begin, at 00:00 UTC; the current week comes first."""
    users: list[UserUsage]
    """Every user who used a GPU in these weeks, or has an active job."""


class WeekUsage(ResponseBody):
    """The jobs on which a user spent GPU hours in a week."""

    week: date
    """The Monday on which the week begins, at 00:00 UTC."""
    jobs: list[JobUsage]
    """At most 200 jobs, those with the most GPU hours first."""


@router.get("")
def get_usage(query: Annotated[UsageQuery, Query()], database: Database, settings: CurrentSettings) -> Usage:
    """Return each user's quota and GPU hours in the last weeks; users with the most hours come first."""
    current = start_of_week(datetime.now(UTC))
    weeks = [current - WEEK * number for number in range(query.weeks)]
    quotas = settings.quotas
    users = [
        UserUsage(
            **dict(escape_model(each)),
            quota_gpus=quotas.of(each.user).gpus,
            quota_gpu_hours=quotas.of(each.user).gpu_hours,
        )
        for each in UsageRepository(database).list_by_user(weeks)
    ]
    return Usage(weeks=[week.date() for week in weeks], users=users)


@router.get("/jobs")
def list_usage_of_user(query: Annotated[WeekQuery, Query()], database: Database) -> WeekUsage:
    """Return the jobs on which a user spent GPU hours in a week, those with the most hours first."""
    day = datetime.now(UTC) if query.week is None else datetime.combine(query.week, time(), UTC)
    week = start_of_week(day)
    found = UsageRepository(database).list_of_user(query.user, week, _JOBS_SHOWN)
    return WeekUsage(week=week.date(), jobs=found)
