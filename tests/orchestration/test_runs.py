"""What a task can find out about its run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from include.orchestration.runs import find_creation

STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def task_instance_of(created_at: datetime) -> UUID:
    """Return the id that Airflow gives a task instance at that time."""
    return UUID(bytes=int(created_at.timestamp() * 1000).to_bytes(6) + bytes(10))


def test_a_retried_task_does_not_put_its_job_at_the_end_of_the_queue() -> None:
    moment, hour = timedelta(seconds=1), timedelta(hours=1)
    assert find_creation(task_instance_of(STARTED - moment), STARTED) == STARTED - moment
    assert find_creation(task_instance_of(STARTED + hour), STARTED) == STARTED
