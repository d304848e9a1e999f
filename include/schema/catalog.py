"""Reads PostgreSQL's catalog with the statements of `sql/catalog`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.schema.columns import ActualColumn

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection, Row

_STATEMENTS = Path(__file__).resolve().parents[2] / "sql" / "catalog"


def read_table_kind(connection: Connection, table: str) -> str | None:
    """Return PostgreSQL's letter for the relation's kind (r: ordinary table); None if it does not exist."""
    rows = _fetch_rows(connection, "table_kind", table=table)
    return rows[0][0] if rows else None


def is_in_first_schema(connection: Connection, table: str) -> bool:
    """Return whether the table is in the first schema of the search path, in which new tables are created."""
    return bool(_fetch_rows(connection, "is_in_first_schema", table=table)[0][0])


def read_columns(connection: Connection, table: str) -> dict[str, ActualColumn]:
    """Return the table's columns by name, in the table's order."""
    return {
        row.name: ActualColumn(**row._mapping)
        for row in _fetch_rows(connection, "table_columns", table=table)
    }


def find_unique_columns(connection: Connection, table: str) -> list[str]:
    """Return the columns whose value alone identifies a row, the primary key first."""
    return [row.name for row in _fetch_rows(connection, "unique_columns", table=table)]


def read_column_checks(connection: Connection, table: str, column: str) -> list[tuple[str, str]]:
    """Return the name and expression of each CHECK that involves the column."""
    return [
        (row.name, row.expression)
        for row in _fetch_rows(connection, "column_checks", table=table, column=column)
    ]


def read_column_references(connection: Connection, table: str, column: str) -> list[tuple[str, str, str]]:
    """Return each foreign key of this column alone: its name, and the table and column that it references."""
    rows = _fetch_rows(connection, "column_references", table=table, column=column)
    return [(row.name, row.listing_table, row.listing_column) for row in rows]


def trigger_exists(connection: Connection, table: str, trigger: str) -> bool:
    """Return whether the table has this trigger and the trigger is enabled."""
    return bool(_fetch_rows(connection, "trigger_exists", table=table, trigger=trigger)[0][0])


@dataclass(frozen=True)
class MissingPrivilege:
    """A privilege that a role lacks."""

    object: str
    """Spelt as in GRANT, such as "TABLE training_jobs"."""
    privilege: str
    """Spelt as in GRANT, such as "SELECT"."""


def find_foreign_tables(connection: Connection, tables: Iterable[str]) -> list[tuple[str, str]]:
    """Return the tables on which the current role lacks the owner's rights, each with its owner."""
    rows = _fetch_rows(connection, "foreign_tables", tables=list(tables))
    return [(row.name, row.owner) for row in rows]


def find_missing_privileges(
    connection: Connection, role: str, needed: Sequence[tuple[str, str]]
) -> list[MissingPrivilege]:
    """Return which of the `needed` privileges, each given with its table, the role lacks."""
    rows = _fetch_rows(
        connection,
        "missing_privileges",
        role=role,
        tables=[table for table, _ in needed],
        privileges=[privilege for _, privilege in needed],
    )
    return [MissingPrivilege(row.object, row.privilege) for row in rows]


def find_row_security(connection: Connection, role: str, tables: Iterable[str]) -> list[tuple[str, bool]]:
    """Return the tables on which row-level security limits the role, and whether each has a policy for it."""
    rows = _fetch_rows(connection, "row_security", role=role, tables=list(tables))
    return [(row.name, row.has_policy) for row in rows]


def find_schema_changing_reasons(connection: Connection, role: str, tables: Iterable[str]) -> list[str]:
    """Return the reasons why the role can change the schema of these tables; none if it cannot."""
    return [
        row.reason
        for row in _fetch_rows(connection, "schema_changing_reasons", role=role, tables=list(tables))
    ]


def fetch_number(connection: Connection, statement: str) -> int:
    """Return the one number that `statement` returns."""
    return int(connection.exec_driver_sql(statement).scalar_one())


def _fetch_rows(connection: Connection, name: str, **values: str | list[str]) -> Sequence[Row[Any]]:
    return connection.exec_driver_sql(_read_statement(name), values).all()


@cache
def _read_statement(name: str) -> str:
    return (_STATEMENTS / f"{name}.sql").read_text()
