"""The curve, the children and the lineage of a job, which its page shows in addition to the row."""

from __future__ import annotations

import itertools
from typing import Any

import psycopg
import pytest

from include.jobs.listing import CHILDREN_SHOWN, CURVE_POINTS, LINEAGE_SHOWN, JobListing, JobUnknown


def _epochs(connection: psycopg.Connection[Any], job_id: str, count: int) -> None:
    connection.execute(
        "INSERT INTO training_epochs (job_id, epoch, metrics, fitness, seconds, eta_seconds) "
        "SELECT %s, n, '{}', n, 2, 100 - n FROM generate_series(0, %s - 1) AS n",
        [job_id, count],
    )
    connection.commit()


@pytest.mark.parametrize("count", [1, 2, 31, 32, 33, 100, 1000])
def test_a_curve_covers_all_epochs_in_even_steps(
    connection: psycopg.Connection[Any], listing: JobListing, count: int
) -> None:
    _epochs(connection, "a", count)
    curve = [point for point in listing.find_details(["a"])["a"].curve if point is not None]
    steps = {later - earlier for earlier, later in itertools.pairwise(curve)}
    assert (curve[0], curve[-1], len(curve)) == (0, count - 1, min(count, CURVE_POINTS))
    assert not steps or max(steps) - min(steps) <= 1


def test_a_missing_epoch_is_a_gap_in_the_curve(
    connection: psycopg.Connection[Any], listing: JobListing
) -> None:
    _epochs(connection, "a", 4)
    connection.execute("DELETE FROM training_epochs WHERE epoch = 1")
    connection.execute("UPDATE training_epochs SET fitness = NULL WHERE epoch = 2")
    assert list(listing.find_details(["a"])["a"].curve) == [0, None, None, 3]


def test_an_unknown_job_has_no_details(listing: JobListing) -> None:
    nothing = listing.find_details(["a"])["a"]
    assert (nothing.recorded_at, list(nothing.curve), list(nothing.children)) == (None, [], [])
    assert listing.find_details([]) == {}


def _descend(connection: psycopg.Connection[Any], *pairs: tuple[str, str | None]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO training_jobs (job_id, parent_job_id, created_at) "
            "SELECT %s, %s, timestamptz '2026-01-01' + count(*) * interval '1 h' FROM training_jobs",
            pairs,
        )
    connection.commit()


def test_the_newest_children_are_shown(connection: psycopg.Connection[Any], listing: JobListing) -> None:
    _descend(connection, ("a", None), *((f"child-{n:02}", "a") for n in range(CHILDREN_SHOWN + 5)))
    children = listing.find_details(["a", "child-07"])["a"].children
    assert list(children) == [f"child-{n:02}" for n in range(CHILDREN_SHOWN + 4, 4, -1)]


FAMILY = (
    ("root", None),
    ("a", "root"),
    ("b", "root"),
    ("aa", "a"),
    ("ab", "a"),
    ("aaa", "aa"),
    ("other", None),
)


@pytest.mark.parametrize(
    ("job_id", "names"),
    [
        ("root", ["root", "a", "b", "aa", "ab", "aaa"]),
        ("a", ["root", "a", "aa", "ab", "aaa"]),
        ("aaa", ["root", "a", "aa", "aaa"]),
        ("other", ["other"]),
    ],
)
def test_a_lineage_has_the_ancestors_and_descendants_of_a_job(
    connection: psycopg.Connection[Any], listing: JobListing, job_id: str, names: list[str]
) -> None:
    _descend(connection, *FAMILY)
    lineage = listing.find_lineage(job_id)
    assert [job.job_id for job in lineage.jobs] == names
    assert lineage.truncated is False


def test_a_circular_lineage_ends(connection: psycopg.Connection[Any], listing: JobListing) -> None:
    _descend(connection, ("a", "c"), ("b", "a"), ("c", "b"), ("self", "self"), ("lost", "gone"))
    assert [job.job_id for job in listing.find_lineage("b").jobs] == ["a", "b", "c"]
    assert [job.job_id for job in listing.find_lineage("self").jobs] == ["self"]
    assert [job.job_id for job in listing.find_lineage("lost").jobs] == ["lost"]
    assert listing.find_lineage("b").truncated is False


def test_a_lineage_that_is_too_large_keeps_the_nearest_relatives(
    connection: psycopg.Connection[Any], listing: JobListing
) -> None:
    _descend(
        connection,
        ("grandparent", None),
        ("parent", "grandparent"),
        ("a", "parent"),
        *((f"child-{n}", "a") for n in range(LINEAGE_SHOWN - 3)),
    )
    assert (len(listing.find_lineage("a").jobs), listing.find_lineage("a").truncated) == (
        LINEAGE_SHOWN,
        False,
    )
    _descend(connection, ("grandchild", "child-0"))
    lineage = listing.find_lineage("a")
    names = {job.job_id for job in lineage.jobs}
    assert (len(names), lineage.truncated) == (LINEAGE_SHOWN, True)
    assert {"grandparent", "parent", "a"} <= names
    assert "grandchild" not in names


def test_an_unknown_job_has_no_lineage(listing: JobListing) -> None:
    for ask in (listing.require, listing.find_lineage):
        with pytest.raises(JobUnknown, match="job_id='nobody' does not exist"):
            ask("nobody")
