"""Listing jobs: pages that neither repeat nor omit a job, filters, counts, host applications' tables."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from include.api.database import tolerate_foreign_values
from include.jobs.job import JobStatus
from include.jobs.listing import EXACT_UP_TO, JobFilter, JobListing, PagePosition
from include.queries import load_query
from include.schema.migrations import apply
from include.stack.postgres import Postgres
from tests.support import host_applications
from tests.support.host_applications import Database

EVERY = JobFilter()


@pytest.fixture(autouse=True, scope="module")
def undated(owner: psycopg.Connection[Any]) -> None:
    """Allow jobs without a creation time, as in the table of a host application."""
    owner.execute("ALTER TABLE training_jobs ALTER created_at DROP NOT NULL")


def plant(connection: psycopg.Connection[Any], rows: str) -> None:
    """Insert rows of job_id, status, dataset, model, and days since the start of 2026 (or NULL)."""
    connection.execute(
        "INSERT INTO training_jobs (job_id, status, spec, created_at, dag_id, run_id) "
        "SELECT job_id, status, jsonb_build_object('dataset', dataset, 'model', model), "
        "timestamptz '2026-01-01' + days * interval '1 day', 'train_yolo', 'run of ' || job_id "
        f"FROM ({rows}) AS planted (job_id, status, dataset, model, days)"
    )
    connection.commit()


SOME = """
VALUES ('a-1', 'completed', 'digits', 'yolo11n', 1), ('a-2', 'failed', 'digits', 'yolo11n', 2),
    ('a-3', 'completed', 'cars', 'yolo11n', 3), ('b_1', 'running', 'cars', 'yolo11s', 3),
    ('b%2', 'running', 'digits', 'yolo11s', 3), ('b1', 'queued', NULL, NULL, NULL),
    ('b\\3', 'stopped', 'x', 'y', 9)
"""
NEWEST_FIRST = ["b\\3", "b_1", "b%2", "a-3", "a-2", "a-1", "b1"]


def found(listing: JobListing, wanted: JobFilter = EVERY) -> list[str]:
    page = listing.find_page(wanted, 100)
    assert page.next is None
    return [job.job_id for job in page.jobs]


def paged(listing: JobListing, limit: int, wanted: JobFilter = EVERY) -> list[list[str]]:
    pages: list[list[str]] = []
    place: PagePosition | None = None
    for _ in range(100):
        page = listing.find_page(wanted, limit, place)
        pages.append([job.job_id for job in page.jobs])
        place = page.next
        if place is None:
            return pages
    raise AssertionError("the pages do not end")


def test_the_newest_job_comes_first_and_jobs_of_unknown_age_come_last(
    connection: psycopg.Connection[Any], listing: JobListing
) -> None:
    plant(connection, SOME)
    names = found(listing)
    assert (names[0], names[-2:]) == ("b\\3", ["a-1", "b1"])
    assert sorted(names) == sorted(NEWEST_FIRST)


@pytest.mark.parametrize("prefix", [None, "job"])
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 50])
def test_pages_hold_every_job_once_even_with_equal_or_missing_creation_times(
    connection: psycopg.Connection[Any], listing: JobListing, limit: int, prefix: str | None
) -> None:
    plant(
        connection,
        "SELECT 'job' || n, 'queued', 'd', 'm', CASE WHEN n > 5 THEN n / 4 END "
        "FROM generate_series(1, 20) AS n",
    )
    wanted = JobFilter(prefix=prefix)
    pages = paged(listing, limit, wanted)
    assert all(len(page) == limit for page in pages[:-1])
    assert list(itertools.chain(*pages)) == found(listing, wanted)
    assert len(set(itertools.chain(*pages))) == 20


def test_a_new_job_does_not_shift_the_following_pages(
    connection: psycopg.Connection[Any], listing: JobListing
) -> None:
    plant(connection, SOME)
    every = found(listing)
    first = listing.find_page(EVERY, 3)
    plant(connection, "VALUES ('newer', 'queued', 'x', 'y', 300)")
    connection.execute("DELETE FROM training_jobs WHERE job_id = %s", [first.jobs[-1].job_id])
    second = listing.find_page(EVERY, 3, first.next)
    assert [job.job_id for job in (*first.jobs, *second.jobs)] == every[:6]


def test_every_combination_of_filters_finds_the_jobs_that_match_all_of_them(
    connection: psycopg.Connection[Any], listing: JobListing
) -> None:
    plant(connection, SOME)
    choices: dict[str, list[Any]] = {
        "status": [None, JobStatus.COMPLETED, JobStatus.RUNNING],
        "dataset": [None, "digits", "cars", "none"],
        "model": [None, "yolo11n", "yolo11s"],
        "prefix": [None, "a", "b"],
        "dag_id": [None, "train_yolo", "other"],
        "archived": [None, True, False],
    }
    connection.execute("UPDATE training_jobs SET archived_at = now() WHERE job_id IN ('a-1', 'b_1')")
    for chosen in itertools.product(*choices.values()):
        wanted = JobFilter(**dict(zip(choices, chosen, strict=True)))
        expected = connection.execute(
            "SELECT job_id FROM training_jobs WHERE status = COALESCE(%s, status) "
            "AND (%s::text IS NULL OR spec ->> 'dataset' = %s) "
            "AND (%s::text IS NULL OR spec ->> 'model' = %s) "
            "AND starts_with(job_id, COALESCE(%s, '')) AND dag_id = COALESCE(%s, dag_id) "
            "AND COALESCE(%s = (archived_at IS NOT NULL), TRUE)",
            [chosen[0], chosen[1], chosen[1], chosen[2], chosen[2], *chosen[3:]],
        ).fetchall()
        names = found(listing, wanted)
        assert sorted(names) == sorted(name for (name,) in expected), wanted
        assert listing.find_page(wanted, 5).total.number == len(expected)


@pytest.mark.parametrize(
    ("prefix", "names"), [("b_", ["b_1"]), ("b%", ["b%2"]), ("b\\", ["b\\3"]), ("A", []), ("a-2", ["a-2"])]
)
def test_wildcards_in_a_prefix_are_taken_literally(
    connection: psycopg.Connection[Any], listing: JobListing, prefix: str, names: list[str]
) -> None:
    plant(connection, SOME)
    assert found(listing, JobFilter(prefix=prefix)) == names


def test_every_id_starts_with_an_empty_prefix(
    connection: psycopg.Connection[Any], listing: JobListing
) -> None:
    plant(connection, SOME)
    assert sorted(found(listing, JobFilter(prefix=""))) == sorted(NEWEST_FIRST)


def test_a_job_is_found_by_its_run(connection: psycopg.Connection[Any], listing: JobListing) -> None:
    plant(connection, SOME)
    assert found(listing, JobFilter(dag_id="train_yolo", run_id="run of a-3")) == ["a-3"]
    assert found(listing, JobFilter(dag_id="other", run_id="run of a-3")) == []


@pytest.mark.parametrize("prefix", [None, "job"])
def test_a_count_above_ten_thousand_is_an_estimate_and_never_below_that_number(
    connection: psycopg.Connection[Any],
    owner: psycopg.Connection[Any],
    listing: JobListing,
    prefix: str | None,
) -> None:
    wanted = JobFilter(prefix=prefix)
    plant(
        connection,
        f"SELECT 'job' || n, 'failed', 'd', 'm', n FROM generate_series(1, {EXACT_UP_TO}) AS n",
    )
    total = listing.find_page(wanted, 5).total
    assert (total.number, total.is_estimate) == (EXACT_UP_TO, False)
    plant(connection, "SELECT 'job0' || n, 'failed', 'd', 'm', n FROM generate_series(1, 5000) AS n")
    unknown = listing.find_page(wanted, 5).total
    assert unknown.number >= EXACT_UP_TO
    assert unknown.is_estimate
    owner.execute("ANALYZE training_jobs")
    assert listing.find_page(wanted, 5).total.number == pytest.approx(15_000, rel=0.1)
    assert listing.find_page(JobFilter(status=JobStatus.RUNNING), 5).total == type(total)(
        0, is_estimate=False
    )


def test_counts_estimates_and_lists_have_the_same_conditions() -> None:
    def conditions(name: str) -> list[str]:
        lines = [line.strip(" ;") for line in load_query(name).decode().splitlines()]
        return [line for line in lines if line.startswith(("WHERE job_id IS NOT NULL", "AND (%("))][:8]

    assert len(conditions("list_jobs")) == 8
    for name in ("count_jobs", "estimate_jobs", "list_matching_jobs"):
        assert conditions(name) == conditions("list_jobs")


def _plan(connection: psycopg.Connection[Any], name: str, **values: Any) -> str:
    given = dict.fromkeys(("status", "dataset", "model", "pattern", "dag_id", "run_id", "archived")) | {
        "any_status": True,
        "first_page": True,
        "before_created_at": "-infinity",
        "before_job_id": "",
        "limit": 26,
    }
    rows = connection.execute(b"EXPLAIN " + load_query(name), given | values).fetchall()
    connection.rollback()
    return "\n".join(row[0] for row in rows)


@pytest.fixture(scope="module")
def many(postgres: Postgres) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection to a schema with 20,000 jobs, which no test changes."""
    with host_applications.fresh_schema(postgres) as schema, psycopg.connect(schema.migrate()) as connection:
        plant(
            connection,
            "SELECT 'job' || n, CASE WHEN n % 100 = 0 THEN 'running' ELSE 'failed' END, "
            "'d' || n % 50, 'm' || n % 9, n "
            "FROM generate_series(1, 20000) AS n",
        )
        connection.execute("UPDATE training_jobs SET archived_at = now() WHERE right(job_id, 2) = '00'")
        connection.commit()
        with psycopg.connect(schema.owner_url, autocommit=True) as owner:
            owner.execute("ANALYZE training_jobs")
        yield connection


@pytest.mark.parametrize(
    ("values", "index"),
    [
        ({}, "newest"),
        ({"first_page": False, "before_created_at": "2026-03-01", "before_job_id": "job9"}, "newest"),
        ({"any_status": False, "status": "running"}, "status"),
        ({"dataset": "d7"}, "dataset"),
        ({"dataset": "nowhere"}, "dataset"),
        ({"model": "m3"}, "model"),
        ({"dataset": "d7", "first_page": False, "before_created_at": "2026-03-01"}, "dataset"),
        ({"archived": False}, "newest"),
        ({"archived": True}, "archived"),
        ({"run_id": "run of job77"}, "run"),
    ],
)
def test_a_page_is_read_in_the_order_of_an_index(
    many: psycopg.Connection[Any], values: dict[str, Any], index: str
) -> None:
    """Only the jobs of a run are sorted. Of jobs that do not match, only archived ones are read."""
    plan = _plan(many, "list_jobs", **values)
    assert f"Index Scan Backward using training_schema_{index} " in plan or index == "run", plan
    assert f"training_schema_{index} " in plan
    assert ("Sort" in plan) == (index == "run")
    for taken in ("Filter: (job_id IS NOT NULL)", "Filter: (archived_at IS NULL)"):
        plan = plan.replace(taken, "")
    assert "Filter" not in plan or index == "run", plan


HOST_APPLICATION = """
CREATE TYPE state AS ENUM ('queued', 'running', 'completed', 'failed', 'stopped', 'ARCHIVED');
CREATE TABLE training_jobs (
    id serial PRIMARY KEY, job_id varchar(200), status state, spec json, metrics json, created_at timestamp,
    parent_job_id varchar(200)
);
INSERT INTO training_jobs (job_id, status, spec, metrics, created_at) VALUES
    ('of ours', 'running', '{"model": "m", "dataset": "d"}', '{"map": 0.5}', '2026-01-02'),
    ('a/b c', 'ARCHIVED', '[1]', '"none"', '2026-01-03'),
    ('large', 'failed', '{"model": 7, "lr0": 1e999}', '{"half": "\\ud800"}', 'infinity'),
    ('empty', NULL, NULL, NULL, NULL),
    ('again', 'failed', '{"model": "m"}', 'null', '-infinity'),
    (NULL, 'queued', '5', '{}', '2026-01-01');
"""


@pytest.mark.parametrize("spec", ["json", "jsonb"])
def test_the_table_of_a_host_application_is_listed_with_any_content(empty: Database, spec: str) -> None:
    with psycopg.connect(empty.owner_url) as host_application:
        host_application.execute(HOST_APPLICATION.replace(" spec json,", f" spec {spec},"))
    with psycopg.connect(empty.migrate()) as connection:
        listing = JobListing(tolerate_foreign_values(connection))
        every = ["large", "a/b c", "of ours", "6", "empty", "again"]
        assert found(listing) == every
        assert list(itertools.chain(*paged(listing, 2))) == every
        jobs = {job.job_id: job for job in listing.find_page(EVERY, 10).jobs}
        assert (jobs["large"].created_at, jobs["large"].metrics) == (None, None)
        assert jobs["a/b c"].status == "ARCHIVED"
        assert found(listing, JobFilter(status=JobStatus.FAILED)) == ["large", "again"]
        assert found(listing, JobFilter(dataset="d", model="m")) == ["of ours"]
        assert found(listing, JobFilter(prefix="a")) == ["a/b c", "again"]
        assert [job.job_id for job in listing.find_lineage("a/b c").jobs] == ["a/b c"]
        connection.commit()
        apply(host_applications.engine(empty.owner_url), "base", confirm_data_loss=True)
