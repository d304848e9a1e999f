"""Checks whether the schema is the one that this code needs. Every training run starts with this check."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg.errors import InsufficientPrivilege

from include.schema.errors import SchemaBehind

if TYPE_CHECKING:
    from psycopg import Connection

MIGRATIONS = Path(__file__).resolve().parents[2] / "sql" / "migrations"
VERSION_TABLE = "training_schema_version"

BASE = "base"
"""The name for the revision of a database in which our schema is not installed."""


def require_current(connection: Connection[Any]) -> None:
    """Raise SchemaBehind unless the database is at this code's newest revision."""
    expected = list_revisions(MIGRATIONS)[-1]
    current = read_revision(connection)
    if current == expected:
        return
    if current is None:
        raise SchemaBehind(
            f"The training database has no schema yet, but this code needs revision {expected}: "
            "run the Dag migrate_schema."
        )
    if current in list_revisions(MIGRATIONS):
        raise SchemaBehind(
            f"The training database is at schema revision {current}, but this code needs {expected}: "
            "run the Dag migrate_schema."
        )
    raise SchemaBehind(describe_newer_schema(current))


def describe_newer_schema(current: str) -> str:
    """Return the message for a schema whose revision this code does not contain."""
    return (
        f"The training database is at schema revision {current}, which this code does not know "
        f"(it goes up to {list_revisions(MIGRATIONS)[-1]}): a newer version migrated it, so deploy that "
        "version."
    )


@cache
def list_revisions(scripts: Path) -> tuple[str, ...]:
    """Return all revisions in `scripts`, the oldest first."""
    from alembic.script import ScriptDirectory

    return tuple(script.revision for script in ScriptDirectory(str(scripts)).walk_revisions())[::-1]


def read_revision(connection: Connection[Any]) -> str | None:
    """Return the database's revision; None if our schema is not installed.

    Raises SchemaBehind if the role is not allowed to read the revision.
    """
    try:
        with connection.transaction():
            exists = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [VERSION_TABLE]).fetchone()
            if exists is None or not exists[0]:
                return None
            row = connection.execute("SELECT max(version_num) FROM training_schema_version").fetchone()
    except InsufficientPrivilege as error:
        raise SchemaBehind(
            f"Role {connection.info.user}, which connection training_db uses, lacks privileges on the "
            "training tables: run the Dag migrate_schema, which grants them."
        ) from error
    return row[0] if row else None
