"""The statements in sql/queries: a shared part is a separate file, inserted when a statement is read."""

from __future__ import annotations

import re

import pytest

from include.jobs.listing import MAX_FILTER_LENGTH
from include.queries import QUERIES, load_query

NAMES = sorted(path.stem for path in QUERIES.glob("*.sql"))


@pytest.mark.parametrize("name", NAMES)
def test_a_statement_is_read_with_all_its_includes(name: str) -> None:
    """A misspelt include would remain a comment, and an UPDATE could lose its condition."""
    assert not re.search(rb"--.*include", load_query(name), flags=re.IGNORECASE)


def test_every_part_is_included_by_more_than_one_statement() -> None:
    statements = [load_query(name) for name in NAMES]
    for part in (QUERIES / "parts").glob("*.sql"):
        text = load_query(f"parts/{part.stem}")
        assert sum(text in statement for statement in statements) > 1, part.stem


def test_the_statement_that_airflow_reads_directly_includes_nothing() -> None:
    assert (QUERIES / "record_checkpoints.sql").read_bytes() == load_query("record_checkpoints")


def test_datasets_and_models_are_compared_up_to_the_maximum_length_of_a_filter() -> None:
    lengths = {
        int(length) for name in NAMES for length in re.findall(rb"left\(.*?, (\d+)\)", load_query(name))
    }
    assert lengths == {MAX_FILTER_LENGTH}
