"""Migrate the training schema: rehearse it, carry it out, and look at what is there."""

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

from include.schema.current import MIGRATIONS, VERSION_TABLE, newer_than_code, revisions
from include.schema.errors import MigrationRefused, SchemaBehind, SchemaUnverified, TargetUnknown
from include.schema.plan import BASE, MigrationPlan
from include.schema.session import DEFAULT_PATIENCE, exclusive, in_sentences
from include.schema.verification import compare

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection, Engine

    from include.schema.session import Patience
    from include.schema.verification import ColumnState

_CHANGES = re.compile(r"\s*(CREATE|ALTER|DROP|INSERT|UPDATE|DELETE)\b", re.IGNORECASE)
_STEPS = re.compile(r"[+-][0-9]+")


def plan(
    engine: Engine,
    target: str = "head",
    *,
    confirm_data_loss: bool = False,
    scripts: Path = MIGRATIONS,
    patience: Patience = DEFAULT_PATIENCE,
) -> MigrationPlan:
    """Rehearse the migration to `target`: run its revisions, roll them back, and return what they did.

    target is "head", "base", a revision, or steps from the current one such as "+1" and "-1". What `apply`
    would refuse is in the plan's problems. Raises TargetUnknown, SchemaBehind (the schema is newer than this
    code), SchemaBusy.
    """
    with exclusive(engine, patience) as connection:
        return _rehearse(connection, target, confirm_data_loss, scripts, patience)


def apply(
    engine: Engine,
    target: str = "head",
    *,
    confirm_data_loss: bool = False,
    scripts: Path = MIGRATIONS,
    patience: Patience = DEFAULT_PATIENCE,
) -> MigrationPlan:
    """Migrate to `target`, one transaction for each revision, and return what was done.

    All of it is rehearsed first: a revision that fails leaves nothing behind, not even those before it.
    Raises MigrationRefused before anything is changed, and what `plan` raises.
    """
    with exclusive(engine, patience) as connection:
        rehearsed = _rehearse(connection, target, confirm_data_loss, scripts, patience)
        if rehearsed.problems:
            raise MigrationRefused(rehearsed.problems)
        config = _config(connection, confirm_data_loss, scripts)
        _migrate(config, rehearsed.current, rehearsed.target, revisions(scripts), patience)
        return rehearsed


def verify(engine: Engine, target: str = "head", *, scripts: Path = MIGRATIONS) -> list[ColumnState]:
    """Compare the database itself with what `target` (head, base or a revision) promises, column by column.

    Raises SchemaUnverified for another revision and for what is missing or different.
    """
    known = revisions(scripts)
    with engine.connect() as connection:
        current = _current(connection, known)
        expected = _resolve(target, current, known)
        if current != expected:
            raise SchemaUnverified(
                f"The training database is at schema revision {current}, not {expected}: "
                f"run the Dag migrate_schema with target={target}."
            )
        return compare(connection, scripts, current)


def _rehearse(
    connection: Connection, target: str, confirm_data_loss: bool, scripts: Path, patience: Patience
) -> MigrationPlan:
    known = revisions(scripts)
    current = _current(connection, known)
    resolved = _resolve(target, current, known)
    config = _config(connection, confirm_data_loss, scripts)
    problems: tuple[str, ...] = ()
    # Alembic finds this transaction open and leaves its end to us.
    with _changes(connection) as statements, connection.begin() as rehearsal:
        try:
            _migrate(config, current, resolved, known, patience)
        except MigrationRefused as refusal:
            problems = refusal.problems
        rehearsal.rollback()
    return MigrationPlan(
        current=current,
        target=resolved,
        revisions=_between(current, resolved, known),
        statements=tuple(statements),
        warnings=tuple(config.attributes["warnings"]),
        problems=problems,
    )


def _config(connection: Connection, confirm_data_loss: bool, scripts: Path) -> Config:
    attributes = {
        "connection": connection,
        "version_table": VERSION_TABLE,
        "confirm_data_loss": confirm_data_loss,
        "warnings": [],
    }
    config = Config(attributes=attributes)
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    return config


def _migrate(config: Config, current: str, target: str, known: tuple[str, ...], patience: Patience) -> None:
    order = (BASE, *known)
    if current == target:
        return
    move = command.upgrade if order.index(target) > order.index(current) else command.downgrade
    with in_sentences(
        f"A table was in use by another program for more than {patience.table}. Try again when its "
        "transactions are short, or end the one that holds the table (pg_stat_activity names it)."
    ):
        move(config, target)


def _current(connection: Connection, known: tuple[str, ...]) -> str:
    """Read the database's revision, in a transaction of its own."""
    with connection.begin():
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        current = context.get_current_revision() or BASE
    if current not in {BASE, *known}:
        raise SchemaBehind(newer_than_code(current))
    return current


def _resolve(target: str, current: str, known: tuple[str, ...]) -> str:
    """Turn head, base and steps into a revision, so that an attempt repeated later means the same."""
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
            f"target={target!r} leads beyond the revisions: the schema is at {current}, and there are "
            f"{', '.join(all_revisions)}."
        )
    raise TargetUnknown(
        f"target={target!r} is no revision: give head, base, {', '.join(known)}, or steps such as +1 or -1."
    )


def _between(current: str, target: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the revisions whose upgrade or downgrade runs, in the order in which they run."""
    all_revisions = (BASE, *known)
    here, there = all_revisions.index(current), all_revisions.index(target)
    if there >= here:
        return all_revisions[here + 1 : there + 1]
    return all_revisions[there + 1 : here + 1][::-1]


@contextmanager
def _changes(connection: Connection) -> Iterator[list[str]]:
    """Collect the statements that change something, with their values filled in."""
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
