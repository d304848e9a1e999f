"""Runs a revision and journals what it creates, so that its downgrade removes exactly those objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Literal, cast

from psycopg.sql import Identifier

from include.schema import catalog
from include.schema.errors import MigrationRefused

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import Connection

    from include.schema.columns import Column

_CREATED = "training_schema_created"

_CreatedKind = Literal["table", "column", "index", "function", "trigger"]

_DROP: Mapping[_CreatedKind, str] = {
    "table": "DROP TABLE {name}",
    "column": "ALTER TABLE {table} DROP COLUMN IF EXISTS {name}",
    "index": "DROP INDEX IF EXISTS {name}",
    "function": "DROP FUNCTION IF EXISTS {name}()",
    "trigger": "DROP TRIGGER IF EXISTS {name} ON {table}",
}


@dataclass(frozen=True)
class _Created:
    """An object that a revision created: one row of the journal."""

    kind: _CreatedKind
    """What it is."""
    table: str
    """The table to which the object belongs; a table belongs to itself."""
    name: str
    """Name of the object."""
    derived_from: str | None
    """The column whose values fill a created column; None for other columns and objects."""

    def drop(self) -> str:
        """Return the statement that drops the object."""
        return _DROP[self.kind].format(table=self.table, name=self.name)


@contextmanager
def open_revision(revision: str, context: MigrationContext) -> Iterator[Revision]:
    """Open a revision for an upgrade; at the end, write the objects that it created to the journal."""
    opened = Revision(revision, context)
    yield opened
    opened.write_journal()


class Revision:
    """A running revision, in the transaction of Alembic's `op.get_context()`."""

    def __init__(self, revision: str, context: MigrationContext) -> None:
        # Both exist whenever Alembic runs a revision, although its types allow for None.
        config, connection = cast("Config", context.config), cast("Connection", context.connection)
        self._revision = revision
        self._confirm_data_loss: bool = config.attributes["confirm_data_loss"]
        self._warnings: list[str] = config.attributes["warnings"]
        self._created: list[_Created] = []
        self.connection = connection

    def execute(self, statement: str) -> None:
        """Run one statement."""
        self.connection.exec_driver_sql(statement)

    def warn(self, warning: str) -> None:
        """Add a warning for the person who rehearses or applies the migration."""
        self._warnings.append(warning)

    def create_journal(self) -> None:
        """Create the table in which revisions journal what they create. The first revision does this."""
        self.execute(
            f"CREATE TABLE IF NOT EXISTS {_CREATED} ("
            "position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, revision text NOT NULL, "
            "kind text NOT NULL, table_name text NOT NULL, name text NOT NULL, derived_from text)"
        )

    def drop_journal(self) -> None:
        """Drop the journal's table. The first revision's downgrade does this last."""
        self.execute(f"DROP TABLE {_CREATED}")

    def create(
        self, kind: _CreatedKind, table: str, name: str, statement: str, *, derived_from: str | None = None
    ) -> None:
        """Create an object with `statement`, and remember it for the journal.

        `derived_from` is the column whose values fill a new column; dropping the new one then loses no data.
        """
        self.execute(statement)
        self._created.append(_Created(kind, table, name, derived_from))

    def create_table(self, table: str, columns: Sequence[Column], *constraints: str) -> None:
        """Create a table of this project."""
        parts = [*(column.definition for column in columns), *constraints]
        self.create("table", table, table, f"CREATE TABLE {table} (\n    " + ",\n    ".join(parts) + "\n)")

    def add_column(self, table: str, column: Column, *, derived_from: str | None = None) -> None:
        """Add a column. Existing rows get NULL: the default applies only to new rows."""
        add = f"ALTER TABLE {table} ADD COLUMN {column.name} {column.type}"
        self.create("column", table, column.name, add, derived_from=derived_from)
        if column.default:
            self.execute(f"ALTER TABLE {table} ALTER COLUMN {column.name} SET DEFAULT {column.default}")

    def create_indexes(self, table: str, indexes: Mapping[str, str]) -> None:
        """Create indexes; `indexes` maps each name to the part of `CREATE INDEX` after the table's name.

        Warns once if the table has 1 MiB or more: nothing can be written to it while indexes are built.
        """
        size = catalog.fetch_number(self.connection, f"SELECT pg_table_size('{table}'::regclass) / 1048576")
        if indexes and size > 0:
            self.warn(f"Nothing can be written to {table} ({size} MiB) while its indexes are built.")
        for name, definition in indexes.items():
            self.create("index", table, name, f"CREATE INDEX IF NOT EXISTS {name} ON {table} {definition}")

    def drop_created(self) -> None:
        """Remove what this revision created, in reverse order.

        Raises MigrationRefused if data would be lost and the loss was not confirmed.
        """
        created = self._read_journal()
        for table in sorted({item.table for item in created}):
            self.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        losses = [loss for item in created if (loss := self._describe_loss(item))]
        if losses and not self._confirm_data_loss:
            raise MigrationRefused([f"{loss} Confirm with confirm_data_loss: true." for loss in losses])
        for loss in losses:
            self.warn(f"Confirmed: {loss}")
        for item in created:
            self.execute(item.drop())
        self.connection.exec_driver_sql(
            f"DELETE FROM {_CREATED} WHERE revision = %(revision)s",  # noqa: S608 - a constant
            {"revision": self._revision},
        )

    def write_journal(self) -> None:
        """Record the created objects, in order."""
        if self._created:
            kinds, tables, names, keys = zip(*map(astuple, self._created), strict=True)
            self.connection.exec_driver_sql(
                f"INSERT INTO {_CREATED} (revision, kind, table_name, name, derived_from) "  # noqa: S608
                "SELECT %(revision)s, * FROM unnest("
                "%(kinds)s::text[], %(tables)s::text[], %(names)s::text[], %(keys)s::text[])",
                {
                    "revision": self._revision,
                    "kinds": list(kinds),
                    "tables": list(tables),
                    "names": list(names),
                    "keys": list(keys),
                },
            )

    def _read_journal(self) -> list[_Created]:
        rows = self.connection.exec_driver_sql(
            "SELECT kind, table_name, name, derived_from "  # noqa: S608 - a constant
            f"FROM {_CREATED} WHERE revision = %(revision)s ORDER BY position DESC",
            {"revision": self._revision},
        )
        return [item for item in (_Created(*row) for row in rows) if self._exists(item)]

    def _exists(self, item: _Created) -> bool:
        columns = catalog.read_columns(self.connection, item.table)
        return bool(columns) and (item.kind != "column" or item.name in columns)

    def _describe_loss(self, item: _Created) -> str | None:
        if item.kind == "table":
            what, held = f"table {item.name}", "TRUE"
        elif item.kind == "column":
            key = (
                item.derived_from
                if item.derived_from in catalog.read_columns(self.connection, item.table)
                else None
            )
            what = f"column {item.table}.{item.name}"
            held = f"{item.name} IS DISTINCT FROM {f'{Identifier(key).as_string()}::text' if key else 'NULL'}"
        else:
            return None
        rows = catalog.fetch_number(self.connection, f"SELECT count(*) FROM {item.table} WHERE {held}")  # noqa: S608
        return f"Dropping {what} would lose data (rows affected: {rows})." if rows else None
