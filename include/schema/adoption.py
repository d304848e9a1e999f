"""Adopts the table of an existing host application: adds what is missing and leaves everything else alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg.sql import Identifier, Literal

from include.schema import catalog
from include.schema.columns import describe_difference
from include.schema.errors import MigrationRefused
from include.schema.values import find_objections

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from include.schema.columns import ActualColumn, Column
    from include.schema.revision import Revision

KEY_TYPES = frozenset({"smallint", "integer", "bigint", "uuid", "text", "character varying"})
KEY_TRIGGER = "zz_training_schema_job_id"
"""Triggers fire in the order of their names. This name comes after those of the host application's triggers,
one of which may generate the key."""

_KEY_FUNCTION = """\
CREATE FUNCTION training_schema_job_id() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    NEW.job_id := to_jsonb(NEW) ->> TG_ARGV[0];
    RETURN NEW;
END
$$"""


def add_missing(revision: Revision, table: str, columns: Sequence[Column]) -> None:
    """Add those of `columns` that the table lacks.

    Raises MigrationRefused if an existing column cannot be used.
    """
    actual = catalog.read_columns(revision.connection, table)
    problems = _find_objections(revision.connection, table, columns, actual)
    if problems:
        raise MigrationRefused(problems)
    for column in columns:
        if column.name not in actual:
            revision.add_column(table, column)
        elif note := describe_difference(table, column, actual[column.name]):
            revision.warn(note)


def require_empty(revision: Revision, table: str, columns: Sequence[Column]) -> None:
    """Refuse existing columns that hold values, because training runs would overwrite these values.

    Raises MigrationRefused.
    """
    actual = catalog.read_columns(revision.connection, table)
    problems = []
    for name in (column.name for column in columns if column.name in actual):
        held = f"SELECT count(*) FROM {table} WHERE {name} IS NOT NULL"  # noqa: S608 - constants
        if rows := catalog.fetch_number(revision.connection, held):
            problems.append(
                f"Column {table}.{name} holds values of another application (rows: {rows}), which a training "
                "run would overwrite: rename it."
            )
    if problems:
        raise MigrationRefused(problems)


def has_own_table(revision: Revision, table: str, columns: Sequence[Column]) -> bool:
    """Return whether our table already exists, for instance because only the version table was lost.

    Another application's table in a later schema of the search path does not count, because our table will
    hide it. Raises MigrationRefused if another application's table is in the first schema, where ours would
    be created. MLflow, for example, also has tables model_versions and datasets.
    """
    if catalog.read_table_kind(revision.connection, table) is None:
        return False
    actual = {name: column.type for name, column in catalog.read_columns(revision.connection, table).items()}
    if {column.name: column.type for column in columns}.items() <= actual.items():
        return True
    if not catalog.is_in_first_schema(revision.connection, table):
        return False
    problem = (
        f"A table {table} of another application exists, with columns {', '.join(actual)}: rename it, or "
        "give connections training_db and training_db_owner a search_path that begins with another schema."
    )
    raise MigrationRefused([problem])


def adopt_jobs(revision: Revision, table: str, columns: Sequence[Column]) -> None:
    """Add the `columns` that the table lacks, and a unique job_id for current and future rows.

    Raises MigrationRefused, which lists every obstacle.
    """
    connection = revision.connection
    kind = catalog.read_table_kind(connection, table)
    if kind != "r":
        raise MigrationRefused([_describe_wrong_kind(table, kind)])
    actual = catalog.read_columns(connection, table)
    key = _find_key(connection, table, actual)
    problems = _find_objections(connection, table, columns, actual)
    problems += _find_naming_problems(connection, table, actual, key)
    if problems:
        raise MigrationRefused(problems)

    revision.warn(
        f"{table} belongs to an existing host application: missing columns are added, and its rows stay "
        "unchanged."
    )
    _warn_of_mandatory_columns(revision, table, columns, actual)
    if "job_id" not in actual:
        revision.add_column(
            table, next(column for column in columns if column.name == "job_id"), derived_from=key
        )
    if key and ("job_id" not in actual or actual["job_id"].is_nullable):
        _name_rows(revision, table, key)
    if "job_id" not in catalog.find_unique_columns(connection, table):
        index = "training_schema_job_id"
        revision.create("index", table, index, f"CREATE UNIQUE INDEX {index} ON {table} (job_id)")
    add_missing(revision, table, columns)


def _find_objections(
    connection: Connection, table: str, columns: Sequence[Column], actual: dict[str, ActualColumn]
) -> list[str]:
    return [problem for column in columns for problem in find_objections(connection, table, column, actual)]


def _find_key(connection: Connection, table: str, actual: dict[str, ActualColumn]) -> str | None:
    """Return a NOT NULL column that identifies the host application's rows; None if there is none."""
    for name in catalog.find_unique_columns(connection, table):
        column = actual[name]
        if name != "job_id" and not column.is_nullable and column.base_type in KEY_TYPES:
            return name
    return None


def _find_naming_problems(
    connection: Connection, table: str, actual: dict[str, ActualColumn], key: str | None
) -> list[str]:
    """Return the reasons why job_id could not identify rows."""
    problems = []
    if key is None and ("job_id" not in actual or actual["job_id"].is_nullable):
        problems.append(
            f"Table {table} has no single-column primary key of type integer, uuid, text or varchar to fill "
            f"job_id from: add such a key, or your own column job_id text NOT NULL UNIQUE."
        )
    if "job_id" in actual:
        repeated = catalog.fetch_number(
            connection,
            f"SELECT count(*) FROM (SELECT FROM {table} WHERE job_id IS NOT NULL "  # noqa: S608 - a constant
            "GROUP BY job_id HAVING count(*) > 1) AS repeated",
        )
        if repeated:
            problems.append(
                f"Column {table}.job_id contains {repeated} duplicate values, but must identify a row: "
                "make them unique, or rename the column."
            )
    return problems


def _name_rows(revision: Revision, table: str, key: str) -> None:
    connection = revision.connection
    if catalog.fetch_number(connection, f"SELECT count(*) FROM {table} WHERE job_id IS NULL"):  # noqa: S608
        _fill_job_id(revision, table, key)
    if catalog.trigger_exists(connection, table, KEY_TRIGGER):
        return
    revision.create("function", table, "training_schema_job_id", _KEY_FUNCTION)
    revision.create(
        "trigger",
        table,
        KEY_TRIGGER,
        f"CREATE TRIGGER {KEY_TRIGGER} BEFORE INSERT ON {table} FOR EACH ROW WHEN (NEW.job_id IS NULL) "
        f"EXECUTE FUNCTION training_schema_job_id({Literal(key).as_string()})",
    )


def _fill_job_id(revision: Revision, table: str, key: str) -> None:
    """Fill job_id by rewriting the table.

    An UPDATE would fire the host application's own triggers and could change more than job_id.
    """
    connection = revision.connection
    size = catalog.fetch_number(connection, f"SELECT pg_table_size('{table}'::regclass) / 1048576")
    revision.warn(f"{table} ({size} MiB) is locked while it is rewritten to fill job_id from {key}.")
    job_id = catalog.read_columns(connection, table)["job_id"]
    revision.execute(
        f"ALTER TABLE {table} ALTER COLUMN job_id "
        f"TYPE {job_id.type} USING COALESCE(job_id, {Identifier(key).as_string()}::text)"
    )


def _warn_of_mandatory_columns(
    revision: Revision, table: str, columns: Sequence[Column], actual: dict[str, ActualColumn]
) -> None:
    ours = {column.name for column in columns}
    mandatory = [
        name
        for name, column in actual.items()
        if name not in ours and not (column.is_nullable or column.has_default or column.is_generated)
    ]
    if mandatory:
        revision.warn(
            f"Only the host application can create rows of {table}, because {', '.join(mandatory)} must be "
            "filled: train_yolo therefore needs the job_id of an existing row."
        )


def _describe_wrong_kind(table: str, kind: str | None) -> str:
    what = {"v": "a view", "m": "a materialized view", "p": "a partitioned table", "f": "a foreign table"}
    return (
        f"{table} is {what.get(kind or '', 'not a table')}, but must be an ordinary table: rename it, "
        "or give connections training_db and training_db_owner a search_path on which it is not found."
    )
