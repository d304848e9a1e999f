"""Migrates the training schema: plans, applies and verifies revisions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from psycopg import ClientCursor
from sqlalchemy import event

from include.schema.current import MIGRATIONS, VERSION_TABLE, describe_newer_schema, revisions
from include.schema.errors import MigrationRefused, SchemaBehind, SchemaUnverified, TargetUnknown
from include.schema.plan import BASE, MigrationPlan
from include.schema.privileges import (
    KEPT_TABLES,
    describe_excess,
    grant,
    require_granted,
    require_ownership,
)
from include.schema.session import DEFAULT_TIMEOUTS, open_exclusive_session, translate_database_errors
from include.schema.verification import compare, promised_columns

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection, Engine

    from include.schema.session import LockTimeouts
    from include.schema.verification import ColumnState

_CHANGES = re.compile(r"\s*(CREATE|ALTER|DROP|INSERT|UPDATE|DELETE|GRANT)\b", re.IGNORECASE)
_STEPS = re.compile(r"[+-][0-9]+")


def plan(
    engine: Engine,
    target: str = "head",
    *,
    application_role: str | None = None,
    confirm_data_loss: bool = False,
    scripts: Path = MIGRATIONS,
    timeouts: LockTimeouts = DEFAULT_TIMEOUTS,
) -> MigrationPlan:
    """Rehearse the migration to `target`: run its revisions, roll them back, and return what they did.

    target is "head", "base", a revision, or steps from the current one, such as "+1" or "-1".
    application_role, if it is not the role that migrates, is granted the rights to read and write rows.
    The plan's problems are the reasons why `apply` would refuse. Raises TargetUnknown, SchemaBehind (the
    schema is newer than this code), SchemaBusy.
    """
    with open_exclusive_session(engine, timeouts) as connection:
        return _rehearse(connection, target, application_role, confirm_data_loss, scripts, timeouts)


def apply(
    engine: Engine,
    target: str = "head",
    *,
    application_role: str | None = None,
    confirm_data_loss: bool = False,
    scripts: Path = MIGRATIONS,
    timeouts: LockTimeouts = DEFAULT_TIMEOUTS,
) -> MigrationPlan:
    """Migrate to `target`, one transaction per revision, and return what was done.

    The whole migration is rehearsed first, so that a revision that would fail leaves nothing behind. If a
    revision fails after that, for instance because a table is locked, the revisions before it stay, and
    applying again continues from there. application_role gets its rights at the end. Raises MigrationRefused,
    nearly always before anything is changed; otherwise the error has the revision that was reached. Also
    raises the errors of `plan`.
    """
    with open_exclusive_session(engine, timeouts) as connection:
        rehearsed = _rehearse(connection, target, application_role, confirm_data_loss, scripts, timeouts)
        if rehearsed.problems:
            raise MigrationRefused(rehearsed.problems)
        config, known = _make_config(connection, confirm_data_loss, scripts), revisions(scripts)
        try:
            _migrate(config, rehearsed.current, rehearsed.target, known, timeouts)
            if application_role is not None:
                with connection.begin():
                    _grant(connection, application_role, scripts, rehearsed.target)
        except MigrationRefused as refusal:  # something has changed since the rehearsal
            reached = _read_current(connection, known)
            if reached == rehearsed.current:
                raise
            raise MigrationRefused(refusal.problems, reached) from refusal
        return rehearsed


def verify(
    engine: Engine, target: str = "head", *, application_role: str | None = None, scripts: Path = MIGRATIONS
) -> list[ColumnState]:
    """Compare the database with what `target` (head, base or a revision) promises, column by column.

    Raises SchemaUnverified if the database is at another revision, if columns are missing or unusable, or if
    application_role lacks rights; also TargetUnknown and SchemaBehind, as `plan` does.
    """
    known = revisions(scripts)
    with engine.connect() as connection:
        current = _read_current(connection, known)
        expected = _resolve(target, current, known)
        if current != expected:
            raise SchemaUnverified(
                f"The training database is at schema revision {current}, not {expected}: "
                f"run the Dag migrate_schema with target={target}."
            )
        if application_role is not None and current != BASE:
            require_granted(connection, application_role, _list_tables(scripts, current))
        return compare(connection, scripts, current)


def _rehearse(
    connection: Connection,
    target: str,
    application_role: str | None,
    confirm_data_loss: bool,
    scripts: Path,
    timeouts: LockTimeouts,
) -> MigrationPlan:
    known = revisions(scripts)
    current = _read_current(connection, known)
    resolved = _resolve(target, current, known)
    config = _make_config(connection, confirm_data_loss, scripts)
    problems: tuple[str, ...] = ()
    # Alembic neither commits nor rolls back a transaction that is already open.
    with _collect_changes(connection) as statements, connection.begin() as rehearsal:
        try:
            if current != resolved:
                require_ownership(connection, _list_tables(scripts, current))
            _migrate(config, current, resolved, known, timeouts)
            if application_role is not None:
                config.attributes["warnings"] += _grant(connection, application_role, scripts, resolved)
        except MigrationRefused as refusal:
            problems = refusal.problems
        rehearsal.rollback()
    return MigrationPlan(
        current=current,
        target=resolved,
        revisions=_revisions_between(current, resolved, known),
        statements=tuple(statements),
        warnings=tuple(config.attributes["warnings"]),
        problems=problems,
    )


def _grant(connection: Connection, role: str, scripts: Path, revision: str) -> list[str]:
    """Grant the application's role its rights at that revision; return warnings about excess rights."""
    if revision == BASE:
        return []
    tables = _list_tables(scripts, revision)
    with translate_database_errors("Another program is changing the rights of a table: try again."):
        grant(connection, role, tables)
        return describe_excess(connection, role, tables)


def _list_tables(scripts: Path, revision: str) -> list[str]:
    """Return the tables at that revision; at base, only the table that another application may have."""
    if revision == BASE:
        return ["training_jobs"]
    return [*promised_columns(scripts, revision), *KEPT_TABLES]


def _make_config(connection: Connection, confirm_data_loss: bool, scripts: Path) -> Config:
    attributes = {
        "connection": connection,
        "version_table": VERSION_TABLE,
        "confirm_data_loss": confirm_data_loss,
        "warnings": [],
    }
    config = Config(attributes=attributes)
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    return config


def _migrate(
    config: Config, current: str, target: str, known: tuple[str, ...], timeouts: LockTimeouts
) -> None:
    order = (BASE, *known)
    if current == target:
        return
    move = command.upgrade if order.index(target) > order.index(current) else command.downgrade
    with translate_database_errors(
        f"Another program has been using a table for more than {timeouts.table}. Try again when its "
        "transactions are short, or end the one that locks the table (pg_stat_activity shows it)."
    ):
        move(config, target)


def _read_current(connection: Connection, known: tuple[str, ...]) -> str:
    """Return the database's revision, read in a separate transaction."""
    with connection.begin():
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        current = context.get_current_revision() or BASE
    if current not in {BASE, *known}:
        raise SchemaBehind(describe_newer_schema(current))
    return current


def _resolve(target: str, current: str, known: tuple[str, ...]) -> str:
    """Turn head, base and steps into a revision, so that a later retry has the same target."""
    all_revisions = (BASE, *known)
    if target == "head":
        return all_revisions[-1]
    if target in all_revisions:
        return target
    if _STEPS.fullmatch(target):
        position = all_revisions.index(current) + int(target)
        if 0 <= position < len(all_revisions):
            return all_revisions[position]
        raise TargetUnknown(
            f"target={target!r} is out of range: the schema is at {current}, and the revisions are "
            f"{', '.join(all_revisions)}."
        )
    raise TargetUnknown(
        f"target={target!r} is not a revision: give head, base, {', '.join(known)}, or steps such as +1 or "
        "-1."
    )


def _revisions_between(current: str, target: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the revisions whose upgrade or downgrade will run, in that order."""
    all_revisions = (BASE, *known)
    start, end = all_revisions.index(current), all_revisions.index(target)
    if end >= start:
        return all_revisions[start + 1 : end + 1]
    return all_revisions[end + 1 : start + 1][::-1]


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
            statements.append(ClientCursor(cursor.connection).mogrify(statement.encode(), parameters).strip())

    event.listen(connection, "before_cursor_execute", collect)
    try:
        yield statements
    finally:
        event.remove(connection, "before_cursor_execute", collect)
