"""Compares the database with the columns that its revision declares."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alembic.script import ScriptDirectory

from include.schema import catalog
from include.schema.adoption import KEY_TRIGGER
from include.schema.current import BASE
from include.schema.errors import SchemaUnverified
from include.schema.values import find_objections

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from include.schema.columns import Column


@dataclass(frozen=True)
class ColumnState:
    """One column, with its expected and its actual type."""

    table: str
    """Name of the column's table."""
    name: str
    """Name of the column."""
    expected: str
    """The type in a new table, with its length."""
    actual: str
    """The type in the database, with its length."""

    def __str__(self) -> str:
        kept = (
            f" (the host application's own; a new table has {self.expected})"
            if self.actual != self.expected
            else ""
        )
        return f"{self.table}.{self.name} {self.actual}{kept}"


def compare(connection: Connection, scripts: Path, revision: str) -> list[ColumnState]:
    """Return the state of every column that `revision` declares. Raises SchemaUnverified."""
    states: list[ColumnState] = []
    problems: list[str] = []
    for table, expected in collect_promised_columns(scripts, revision).items():
        actual = catalog.read_columns(connection, table)
        for column in expected:
            if column.name not in actual:
                problems.append(f"Column {table}.{column.name} {column.type} is missing.")
                continue
            found = actual[column.name]
            states.append(ColumnState(table, column.name, column.type, found.type))
            problems += find_objections(connection, table, column, actual)
        if actual and table == "training_jobs":
            problems += _find_unnamed_rows(connection, table)
    if problems:
        raise SchemaUnverified(
            f"The training database does not match its schema revision {revision}:\n"
            + "\n".join(f"- {problem}" for problem in problems)
        )
    return states


def collect_promised_columns(scripts: Path, revision: str) -> dict[str, tuple[Column, ...]]:
    """Return the columns that the revisions up to `revision` declare, by table."""
    promised: dict[str, tuple[Column, ...]] = {}
    if revision != BASE:
        upwards = list(ScriptDirectory(str(scripts)).iterate_revisions(revision, "base"))[::-1]
        for script in upwards:
            for table, columns in script.module.COLUMNS.items():
                promised[table] = (*promised.get(table, ()), *columns)
    return promised


def _find_unnamed_rows(connection: Connection, table: str) -> list[str]:
    """Return the reasons why rows of the table might have no job_id, or share one."""
    job_id = catalog.read_columns(connection, table).get("job_id")
    if job_id is None:
        return []
    problems = []
    if "job_id" not in catalog.find_unique_columns(connection, table):
        problems.append(f"Column {table}.job_id has no unique index: two rows could have the same job_id.")
    if job_id.is_nullable and not catalog.trigger_exists(connection, table, KEY_TRIGGER):
        problems.append(
            f"Trigger {KEY_TRIGGER} of {table} is missing or disabled: new rows would get no job_id."
        )
    nameless = catalog.fetch_number(connection, f"SELECT count(*) FROM {table} WHERE job_id IS NULL")  # noqa: S608
    if nameless:
        problems.append(f"{nameless} rows of {table} have no job_id.")
    return problems
