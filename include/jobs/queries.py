"""The statements on `training_jobs` and `training_epochs`, which are files."""

from __future__ import annotations

from functools import cache
from pathlib import Path

QUERIES = Path(__file__).resolve().parents[2] / "sql" / "queries"


@cache
def query(name: str) -> bytes:
    """Return the text of `sql/queries/{name}.sql`."""
    return (QUERIES / f"{name}.sql").read_bytes()
