"""Runs the statements of `sql/queries` over a connection to the training database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg.rows import namedtuple_row

from include.queries import load_query

if TYPE_CHECKING:
    from collections.abc import Callable
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
