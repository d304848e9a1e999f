"""Runs the statements of `sql/queries`, and makes values storable in the training database."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from psycopg.rows import namedtuple_row

from include.limits import ERROR_BYTES
from include.queries import load_query
from include.refusals import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from psycopg import Connection, Cursor

    OpenDatabase = Callable[[], AbstractContextManager[Connection[Any]]]
    """Opens a connection to the training database, which is closed at the end of the `with` block."""


class Statements:
    """Runs statements by name over one psycopg connection.

    The caller closes the connection and controls its transactions. Rows are returned as named tuples.
    Keyword arguments that the statement does not use are ignored.
    """

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection = connection

    def fetch_one(self, name: str, /, **values: Any) -> Any:
        """Run the statement, and return the first row that it returns, or None."""
        return self._run(name, values).fetchone()

    def fetch_all(self, name: str, /, **values: Any) -> list[Any]:
        """Run the statement, and return every row that it returns."""
        return self._run(name, values).fetchall()

    def stream(self, name: str, /, **values: Any) -> Iterator[Any]:
        """Run the statement, and yield its rows one by one, so that there may be millions."""
        return self._connection.cursor(row_factory=namedtuple_row).stream(load_query(name), values)

    def execute(self, name: str, /, **values: Any) -> int:
        """Run the statement, and return how many rows it wrote."""
        return self._run(name, values).rowcount

    def _run(self, name: str, values: dict[str, Any]) -> Cursor[Any]:
        cursor = self._connection.cursor(row_factory=namedtuple_row)
        # Not prepared, because a prepared statement may get a generic plan, which ignores the values.
        return cursor.execute(load_query(name), values, prepare=False)


def fetch_rows(connection: Connection[Any], name: str, /, **values: Any) -> list[Any]:
    """Run the statement in its own transaction, and return every row."""
    with connection.transaction():
        return Statements(connection).fetch_all(name, **values)


def make_finite(value: Any) -> Any:
    """Return `value` (plain JSON data) with None for every number that is not finite, which jsonb rejects."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: make_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [make_finite(item) for item in value]
    return value


def make_storable(text: str) -> str:
    """Escape characters that PostgreSQL cannot store (NUL and lone surrogates), and shorten the text.

    The text is shortened because every listing includes it.
    """
    storable = text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
    return shorten(storable, ERROR_BYTES)
