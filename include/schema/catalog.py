"""What the database holds, read from PostgreSQL's own catalog by the statements of `sql/catalog`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.schema.columns import ActualColumn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Row

_STATEMENTS = Path(__file__).resolve().parents[2] / "sql" / "catalog"


def quoted(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def table_kind(connection: Connection, table: str) -> str | None:
    """PostgreSQL's letter for the kind of relation (r is an ordinary table), or None if there is none."""
    rows = _rows(connection, "table_kind", table=table)
    return rows[0][0] if rows else None


def columns(connection: Connection, table: str) -> dict[str, ActualColumn]:
    """Return the table's columns by name, in their order."""
    return {row.name: ActualColumn(**row._mapping) for row in _rows(connection, "table_columns", table=table)}


def unique_columns(connection: Connection, table: str) -> list[str]:
    """Return the columns whose value alone names a row, the primary key first."""
    return [row.name for row in _rows(connection, "unique_columns", table=table)]


def column_checks(connection: Connection, table: str, column: str) -> list[tuple[str, str]]:
    """Name and expression of each CHECK that looks at the column."""
    return [
        (row.name, row.expression) for row in _rows(connection, "column_checks", table=table, column=column)
    ]


def column_references(connection: Connection, table: str, column: str) -> list[tuple[str, str, str]]:
    """Name, table and column (as SQL identifiers) of each list of values that the column refers to."""
    rows = _rows(connection, "column_references", table=table, column=column)
    return [(row.name, row.listing_table, row.listing_column) for row in rows]


def trigger_exists(connection: Connection, table: str, trigger: str) -> bool:
    """Whether the table has this trigger, and it fires."""
    return bool(_rows(connection, "trigger_exists", table=table, trigger=trigger)[0][0])


def number(connection: Connection, statement: str) -> int:
    """Return the one number that `statement` returns."""
    return int(connection.exec_driver_sql(statement).scalar_one())


def _rows(connection: Connection, name: str, **values: str) -> Sequence[Row[Any]]:
    return connection.exec_driver_sql(_statement(name), values).all()


@cache
def _statement(name: str) -> str:
    return (_STATEMENTS / f"{name}.sql").read_text()
