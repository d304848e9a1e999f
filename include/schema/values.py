"""Checks whether an existing column accepts our values: its type, CHECK constraints and references."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg.sql import Identifier, Literal
from sqlalchemy.exc import DBAPIError, OperationalError

from include.schema import catalog
from include.schema.columns import find_type_objection

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from include.schema.columns import ActualColumn, Column

_ALSO_WRITTEN = {
    "running": ("started_at",),
    "completed": ("started_at", "completed_at", "best_checkpoint_path"),
    "failed": ("error",),
}
"""For each status, the columns that are always set in a job with that status, because a CHECK may involve
several columns. A job that failed or was stopped has a `started_at` only if it got a GPU."""


def find_objections(
    connection: Connection, table: str, column: Column, actual: dict[str, ActualColumn]
) -> list[str]:
    """Return the reasons why the table's existing column cannot be used, with remedies; change nothing.

    The list is empty if the column can be used, or if the table has no such column.
    """
    if column.name not in actual:
        return []
    if problem := find_type_objection(table, column, actual[column.name]):
        return [problem]
    return _find_refused_values(connection, table, column, actual) if column.values else []


def _find_refused_values(
    connection: Connection, table: str, column: Column, actual: dict[str, ActualColumn]
) -> list[str]:
    of_type = [value for value in column.values if not _fits_type(connection, actual[column.name], value)]
    if of_type:
        return [_describe_type_refusal(table, actual[column.name], of_type)]
    problems = []
    for name, expression in catalog.read_column_checks(connection, table, column.name):
        refused = [
            value
            for value in column.values
            if not _passes(connection, expression, column.name, value, actual)
        ]
        if refused:
            problems.append(
                f"CHECK {name} rejects {table}.{column.name} = {', '.join(refused)}: "
                f"drop it, or make it allow {', '.join(column.values)}."
            )
    for name, listing, listed in catalog.read_column_references(connection, table, column.name):
        refused = [value for value in column.values if not _is_listed(connection, listing, listed, value)]
        if refused:
            problems.append(
                f"Foreign key {name} rejects {table}.{column.name} = {', '.join(refused)}: "
                f"insert these into {listing}.{listed}."
            )
    return problems


def _describe_type_refusal(table: str, actual: ActualColumn, refused: list[str]) -> str:
    where = f"Column {table}.{actual.name} has type {actual.type}, which rejects {', '.join(refused)}"
    if actual.kind == "e":
        add = "; ".join(f"ALTER TYPE {actual.type} ADD VALUE '{value}'" for value in refused)
        return f"{where}: {add}."
    alter = f"ALTER TABLE {table} ALTER COLUMN {actual.name} TYPE text"
    return f"{where}: change what {actual.type} allows, or {alter}."


def _fits_type(connection: Connection, actual: ActualColumn, value: str) -> bool:
    return _is_true(connection, f"SELECT CAST({_quote(value)} AS {actual.type}) IS NOT NULL")


def _passes(
    connection: Connection, expression: str, column: str, value: str, actual: dict[str, ActualColumn]
) -> bool:
    """Evaluate the CHECK on a row like those that we write, without writing to the table."""
    literals = {name: "now()" if name.endswith("_at") else "'s3://'" for name in _ALSO_WRITTEN.get(value, ())}
    literals[column] = _quote(value)
    fields = (
        f"CAST({literals.get(name, 'NULL')} AS {other.type}) AS {Identifier(name).as_string()}"
        for name, other in actual.items()
    )
    row = f"SELECT {', '.join(fields)}"
    passes = f"SELECT ({expression}) IS NOT FALSE FROM ({row}) AS written"  # noqa: S608 - the database's own expression
    return _is_true(connection, passes)


def _is_listed(connection: Connection, listing: str, listed: str, value: str) -> bool:
    listed_value = f"SELECT FROM {listing} WHERE {listed}::text = {_quote(value)}"
    return _is_true(connection, f"SELECT EXISTS ({listed_value})")


def _quote(value: str) -> str:
    """Return the value as an SQL literal.

    A parameter instead would make psycopg read a percent sign in a host application's names as a placeholder.
    """
    return Literal(value).as_string()


def _is_true(connection: Connection, statement: str) -> bool:
    """Return whether `statement` is true; False if PostgreSQL rejects a value in it.

    The transaction continues in either case. Raises OperationalError.
    """
    try:
        with connection.begin_nested():
            return bool(connection.exec_driver_sql(statement).scalar_one())
    except DBAPIError as error:
        # An OperationalError, such as a lock that times out, says nothing about the value.
        if error.connection_invalidated or isinstance(error, OperationalError):
            raise
        return False
