"""People archive their own ended jobs: the jobs are kept, and lists can omit them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import requests

from include.jobs.repository import JobRepository
from tests.support.jobs import claim, epoch_report, record_checkpoints

Archive = Callable[[str], requests.Response]


@pytest.fixture
def archive(api_url: str) -> Archive:
    def send(method: str) -> requests.Response:
        return requests.request(method, f"{api_url}/jobs/a/archive", timeout=60)

    return send


@pytest.fixture(autouse=True)
def ended(jobs: JobRepository, connection: psycopg.Connection[Any]) -> None:
    """Job a belongs to ada and has ended."""
    claim(jobs)
    jobs.record_epoch("a", "run1", 1, epoch_report(0))
    record_checkpoints(connection)


def listed(api_url: str, **query: str) -> list[str]:
    page = requests.get(f"{api_url}/jobs", params=query, timeout=60).json()
    assert page["total"] == len(page["jobs"])
    return [job["job_id"] for job in page["jobs"]]


def test_an_archived_job_is_listed_only_on_request(
    archive: Archive, api_url: str, jobs: JobRepository
) -> None:
    claim(jobs, "b")
    answer = archive("POST")
    assert answer.status_code == 200
    assert answer.json()["archived_at"] is not None
    assert archive("POST").json()["archived_at"] == answer.json()["archived_at"]
    assert listed(api_url, archived="false") == ["b"]
    assert listed(api_url, archived="true") == listed(api_url, archived="true", prefix="a") == ["a"]
    assert sorted(listed(api_url)) == ["a", "b"]
    assert requests.get(f"{api_url}/jobs/a", timeout=60).json() == answer.json()

    assert archive("DELETE").json()["archived_at"] is None
    assert archive("DELETE").status_code == 200
    assert sorted(listed(api_url, archived="false")) == ["a", "b"]


def test_archiving_changes_nothing_else_in_the_job(archive: Archive, jobs: JobRepository) -> None:
    before = jobs.get("a")
    assert before is not None
    archive("POST")
    archived = jobs.get("a")
    assert archived is not None
    assert archived.model_copy(update={"archived_at": None}) == before


@pytest.mark.parametrize("status", ["queued", "running"])
def test_an_active_job_is_not_archived(
    archive: Archive, connection: psycopg.Connection[Any], jobs: JobRepository, status: str
) -> None:
    connection.execute("UPDATE training_jobs SET status = %s", [status])
    connection.commit()
    answer = archive("POST")
    assert (answer.status_code, "is still active" in answer.json()["detail"]) == (409, True)
    assert archive("DELETE").status_code == 200


def test_a_job_without_a_status_can_be_archived(archive: Archive, owner: psycopg.Connection[Any]) -> None:
    """The status column of a host application may allow this."""
    owner.execute("ALTER TABLE training_jobs ALTER status DROP NOT NULL")
    owner.execute("UPDATE training_jobs SET status = NULL")
    assert archive("POST").status_code == 200


def test_a_new_run_takes_its_job_out_of_the_archive(archive: Archive, jobs: JobRepository) -> None:
    archive("POST")
    assert claim(jobs, run_id="run2", expected="run1").archived_at is None


def test_a_deleted_job_is_not_found(archive: Archive, connection: psycopg.Connection[Any]) -> None:
    connection.execute("DELETE FROM training_jobs")
    connection.commit()
    assert archive("POST").status_code == 404
