"""Migrates the training schema: rehearses, applies and verifies revisions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from psycopg import ClientCursor
from sqlalchemy import event

from include.schema.current import BASE, MIGRATIONS, VERSION_TABLE, describe_newer_schema, list_revisions
from include.schema.errors import MigrationRefused, SchemaBehind, SchemaUnverified, TargetUnknown
from include.schema.privileges import (
    KEPT_TABLES,
    describe_excess,
    grant,
    require_granted,
    require_ownership,
)
from include.schema.session import DEFAULT_TIMEOUTS, open_exclusive_session, translate_database_errors
from include.schema.verification import collect_promised_columns, compare

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection, Engine

    from include.schema.session import LockTimeouts
    from include.schema.verification import ColumnState

_CHANGES = re.compile(r"\s*(CREATE|ALTER|DROP|INSERT|UPDATE|DELETE|GRANT)\b", re.IGNORECASE)
_STEPS = re.compile(r"[+-][0-9]+")


@dataclass(frozen=True)
class Rehearsal:
    """A rehearsal of a migration: the migration was run, and then rolled back."""

    current: str
    """The database's revision; "base" if our schema is not installed."""
    target: str
    """The revision to migrate to; "base" to remove our schema."""
    revisions: tuple[str, ...]
    """The revisions that run, in order."""
    statements: tuple[str, ...]
    """The SQL statements that change the database, in order."""
    warnings: tuple[str, ...]
    """Sentences for the person who migrates, such as that a table is rewritten."""
    problems: tuple[str, ...]
    """The reasons why `apply` would refuse."""

    @property
    def report(self) -> str:
        """The rehearsal as text."""
        lines = [f"Schema: at {self.current}, target {self.target}."]
        if not (self.revisions or self.statements or self.problems):
            lines[0] += " Nothing to do."
        if self.revisions:
            lines.append(f"Revisions: {', '.join(self.revisions)}.")
        if self.statements:
            lines += ["SQL:", *(f"{statement};" for statement in self.statements)]
        lines += [f"Note: {warning}" for warning in self.warnings]
        lines += [f"PROBLEM: {problem}" for problem in self.problems]
        if self.problems:
            lines.append("apply will refuse until these problems are fixed.")
        return "\n".join(lines)


def rehearse(
    engine: Engine,
    target: str = "head",
    *,
    application_role: str | None = None,
    confirm_data_loss: bool = False,
    timeouts: LockTimeouts = DEFAULT_TIMEOUTS,
) -> Rehearsal:
    """Rehearse the migration to `target`: run its revisions, roll them back, and return what they did.

    `target` is "head", "base", a revision, or steps from the current one, such as "+1" or "-1".
    `application_role`, if it is not the role that migrates, is granted the rights to read and write rows.
    Raises TargetUnknown, SchemaBehind (the schema is newer than this code), and SchemaBusy.
    """
    with open_exclusive_session(engine, timeouts) as connection:
        return _Migration(connection, application_role, confirm_data_loss, timeouts).rehearse(target)


def apply(
    engine: Engine,
    target: str = "head",
    *,
    application_role: str | None = None,
    confirm_data_loss: bool = False,
    scripts: Path = MIGRATIONS,
    timeouts: LockTimeouts = DEFAULT_TIMEOUTS,
) -> Rehearsal:
    """Migrate to `target`, one transaction per revision, and return what was done.

    The whole migration is rehearsed first, so that a revision that would fail leaves nothing behind. A
    revision may still fail after that, for instance because a table is locked. The revisions before it then
    stay, and the next call continues from there. `application_role` gets its rights at the end. Raises
    MigrationRefused, nearly always before anything is changed; otherwise the error names the revision that
    was reached. Also raises the errors of `rehearse`.
    """
    with open_exclusive_session(engine, timeouts) as connection:
        migration = _Migration(connection, application_role, confirm_data_loss, timeouts, scripts)
        rehearsed = migration.rehearse(target)
        if rehearsed.problems:
            raise MigrationRefused(rehearsed.problems)
        try:
            migration.migrate(migration.make_config(), rehearsed.current, rehearsed.target)
            with connection.begin():
                migration.grant(rehearsed.target)
        except MigrationRefused as refusal:  # something has changed since the rehearsal
            reached = migration.read_current()
            if reached == rehearsed.current:
                raise
            raise MigrationRefused(refusal.problems, reached) from refusal
        return rehearsed


def verify(engine: Engine, target: str = "head", *, application_role: str | None = None) -> list[ColumnState]:
    """Compare the database with what `target` (head, base or a revision) promises, column by column.

    Raises SchemaUnverified if the database is at another revision, if columns are missing or unusable, or if
    `application_role` lacks rights; also TargetUnknown and SchemaBehind, as `rehearse` does.
    """
    with engine.connect() as connection:
        migration = _Migration(connection, application_role)
        current = migration.read_current()
        expected = migration.resolve(target, current)
        if current != expected:
            raise SchemaUnverified(
                f"The training database is at schema revision {current}, not {expected}: "
                f"run the Dag migrate_schema with target={target}."
            )
        if application_role is not None and current != BASE:
            require_granted(connection, application_role, migration.list_tables(current))
        return compare(connection, migration.scripts, current)


@dataclass(frozen=True)
class _Migration:
    """A migration over one connection, with the settings of `rehearse` and `apply`."""

    connection: Connection
    """Holds the lock for migrations, which `verify` does not need."""
    application_role: str | None
    """The role that gets, or must have, the rights on rows; None if it is the role that migrates."""
    confirm_data_loss: bool = False
    """Whether a downgrade may drop columns and tables that hold data."""
    timeouts: LockTimeouts = DEFAULT_TIMEOUTS
    """How long to wait for locks."""
    scripts: Path = MIGRATIONS
    """The folder with Alembic's `env.py` and the revisions."""

    @property
    def order(self) -> tuple[str, ...]:
        """The base and all revisions, the oldest first."""
        return (BASE, *list_revisions(self.scripts))

    def rehearse(self, target: str) -> Rehearsal:
        """Migrate to `target`, roll that back, and return what was done."""
        current = self.read_current()
        resolved = self.resolve(target, current)
        config = self.make_config()
        problems: tuple[str, ...] = ()
        # Alembic neither commits nor rolls back a transaction that is already open.
        with _collect_changes(self.connection) as statements, self.connection.begin() as rehearsal:
            try:
                if current != resolved:
                    require_ownership(self.connection, self.list_tables(current))
                self.migrate(config, current, resolved)
                config.attributes["warnings"] += self.grant(resolved)
            except MigrationRefused as refusal:
                problems = refusal.problems
            rehearsal.rollback()
        return Rehearsal(
            current=current,
            target=resolved,
            revisions=self._find_revisions(current, resolved),
            statements=tuple(statements),
            warnings=tuple(config.attributes["warnings"]),
            problems=problems,
        )

    def make_config(self) -> Config:
        """Return Alembic's configuration; revisions add to its attribute `warnings`."""
        attributes = {
            "connection": self.connection,
            "version_table": VERSION_TABLE,
            "confirm_data_loss": self.confirm_data_loss,
            "warnings": [],
        }
        config = Config(attributes=attributes)
        config.set_main_option("script_location", str(self.scripts).replace("%", "%%"))
        return config

    def migrate(self, config: Config, current: str, target: str) -> None:
        """Run the revisions between `current` and `target`."""
        if current == target:
            return
        is_upgrade = self.order.index(target) > self.order.index(current)
        with translate_database_errors(
            f"Another program has been using a table for more than {self.timeouts.table}. Try again later, "
            "or end the transaction that locks the table (pg_stat_activity shows it)."
        ):
            (command.upgrade if is_upgrade else command.downgrade)(config, target)

    def grant(self, revision: str) -> list[str]:
        """Grant the application's role its rights at that revision; return warnings about excess rights."""
        if self.application_role is None or revision == BASE:
            return []
        tables = self.list_tables(revision)
        with translate_database_errors("Another program is changing the rights of a table: try again."):
            grant(self.connection, self.application_role, tables)
            return describe_excess(self.connection, self.application_role, tables)

    def list_tables(self, revision: str) -> list[str]:
        """Return the tables at that revision; at base, only the one that a host application may have."""
        if revision == BASE:
            return ["training_jobs"]
        return [*collect_promised_columns(self.scripts, revision), *KEPT_TABLES]

    def read_current(self) -> str:
        """Return the database's revision, read in a separate transaction."""
        with self.connection.begin():
            context = MigrationContext.configure(self.connection, opts={"version_table": VERSION_TABLE})
            current = context.get_current_revision() or BASE
        if current not in self.order:
            raise SchemaBehind(describe_newer_schema(current))
        return current

    def resolve(self, target: str, current: str) -> str:
        """Turn head, base and steps into a revision, so that a later retry has the same target."""
        if target == "head":
            return self.order[-1]
        if target in self.order:
            return target
        if _STEPS.fullmatch(target):
            position = self.order.index(current) + int(target)
            if 0 <= position < len(self.order):
                return self.order[position]
            raise TargetUnknown(
                f"target={target!r} is out of range: the schema is at {current}, and the revisions are "
                f"{', '.join(self.order)}."
            )
        raise TargetUnknown(
            f"target={target!r} is not a revision: give head, {', '.join(self.order)}, or steps such as +1 "
            "or -1."
        )

    def _find_revisions(self, current: str, target: str) -> tuple[str, ...]:
        """Return the revisions whose upgrade or downgrade will run, in the order in which they run."""
        start, end = self.order.index(current), self.order.index(target)
        if end >= start:
            return self.order[start + 1 : end + 1]
        return self.order[end + 1 : start + 1][::-1]


@contextmanager
def _collect_changes(connection: Connection) -> Iterator[list[str]]:
    """Collect the statements that change the database, with their values filled in."""
    statements: list[str] = []

    def collect(
        _connection: Connection,
        cursor: psycopg.Cursor[Any],
        statement: str,
        parameters: Any,
        _context: object,
        _many: bool,
    ) -> None:
        if _CHANGES.match(statement):
            filled = ClientCursor(cursor.connection).mogrify(statement.encode(), parameters or None)
            statements.append(filled.strip())

    event.listen(connection, "before_cursor_execute", collect)
    try:
        yield statements
    finally:
        event.remove(connection, "before_cursor_execute", collect)
