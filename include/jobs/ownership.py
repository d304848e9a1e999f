"""Decides who may change a job: its owner and job administrators, or everyone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.jobs.job import TRAINING_DAG
from include.refusals import list_some

if TYPE_CHECKING:
    from include.jobs.job import TrainingJob

_NAMED = 5
"""Maximum number of administrators that a message names."""


@dataclass(frozen=True)
class JobOwnership:
    """Who may stop, complete, resume, start over, archive and delete which jobs in this deployment.

    Users are identified by their names in Airflow. Roles do not matter. A task can see who triggered its run,
    but not that user's roles. If roles mattered in the console, the run could refuse what the console
    allowed.
    """

    administrators: frozenset[str] = frozenset()
    """Users who may change every job."""
    open_to_all: bool = False
    """Whether everyone who may start jobs may change every job."""
    scheduled_owner: str | None = None
    """Owner of the jobs that a schedule starts; None if they have no owner."""

    def determine_owner(self, triggered_by: str | None) -> str | None:
        """Return the owner of a run's jobs; `triggered_by` is the run's user, or None for a schedule."""
        return triggered_by or self.scheduled_owner

    def may_change_all(self, user: str | None) -> bool:
        """Return whether the user may change everyone's jobs."""
        return self.open_to_all or user in self.administrators

    def may_change(self, user: str | None, job: TrainingJob) -> bool:
        """Return whether the user may change this job; `user` is None for a schedule without an owner.

        Anyone may change a job that a host application wrote: a job without an owner that no run of
        `train_yolo` has taken.
        """
        written_elsewhere = job.triggered_by is None and job.dag_id != TRAINING_DAG
        return self.may_change_all(user) or written_elsewhere or job.triggered_by == user

    def explain(self, job: TrainingJob) -> str:
        """Return the start of a sentence; the caller adds the action that only these people may take."""
        by = f"belongs to {job.triggered_by}" if job.triggered_by else "has no owner: a schedule started it"
        whose = f"job_id={job.job_id!r} {by}"
        owner = f"{job.triggered_by} or " if job.triggered_by else ""
        administrators = list_some(sorted(self.administrators), _NAMED) or "JOB_ADMINISTRATORS names none"
        return f"{whose}; only {owner}a job administrator ({administrators}) may"
