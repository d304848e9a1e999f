"""The training database, for the time of a request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Depends
from psycopg import Connection

from include.pipeline.connections import training_db


def _connected() -> Iterator[Connection[Any]]:
    """Opened for each request, as everywhere; a route that takes it must be a plain `def`: it blocks."""
    with training_db() as connection:
        yield connection


Database = Annotated[Connection[Any], Depends(_connected)]
"""A parameter of a route: an open connection, closed when the answer was made."""
