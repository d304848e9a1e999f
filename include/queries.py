"""Reads the SQL statements in `sql/queries`."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

QUERIES = Path(__file__).resolve().parents[1] / "sql" / "queries"
_INCLUDE = re.compile(rb"-- include: (\w+)\n")


@cache
def load_query(name: str) -> bytes:
    """Return the text of `sql/queries/{name}.sql`, with its includes expanded.

    `-- include: matching_jobs` at the end of a line is replaced by the text of `parts/matching_jobs.sql`.
    """
    text = (QUERIES / f"{name}.sql").read_bytes()
    return _INCLUDE.sub(lambda include: load_query(f"parts/{include[1].decode()}"), text)
