"""The rights of the application's role on the tables: to read and write their rows, and nothing else.

The role that migrates must have the rights of the tables' owner. It grants the application's role its rights
on the tables, and USAGE on their schema. If it may not grant a missing right, the migration is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg.sql import Identifier
from sqlalchemy.exc import ProgrammingError

from include.schema import catalog
from include.schema.errors import MigrationRefused, SchemaUnverified

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Connection

    from include.schema.catalog import MissingPrivilege

PRIVILEGES: Mapping[str, tuple[str, ...]] = {
    "training_jobs": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "training_epochs": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "model_versions": ("SELECT", "INSERT", "UPDATE"),
    "checkpoint_audits": ("SELECT", "INSERT", "DELETE"),
    "datasets": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "dataset_numbers": ("SELECT", "INSERT", "UPDATE"),
    "gpu_usage": ("SELECT", "INSERT", "UPDATE"),
    "training_schema_created": ("SELECT",),
    "training_schema_version": ("SELECT",),
}
"""The rights that `sql/queries` and the check of the schema's revision need on each table."""

KEPT_TABLES = ("training_schema_created", "training_schema_version")
"""Tables that exist in every revision: the journal and Alembic's version table."""


def require_ownership(connection: Connection, tables: Iterable[str]) -> None:
    """Raise MigrationRefused if the current role lacks the rights of the tables' owners."""
    role = str(connection.exec_driver_sql("SELECT current_user").scalar_one())
    problems = [
        f"Table {table} belongs to role {owner}, and role {role}, which migrates, is not a member of role "
        f"{owner}: run GRANT {Identifier(owner).as_string()} TO {Identifier(role).as_string()}, or give "
        "connection training_db_owner a role that is a member."
        for table, owner in catalog.find_foreign_tables(connection, tables)
    ]
    if problems:
        raise MigrationRefused(problems)


def grant(connection: Connection, role: str, tables: Sequence[str]) -> None:
    """Grant the role the rights on these tables that it needs and does not have yet.

    If the current role may not grant them, or if row-level security hides all rows from the role, raises
    MigrationRefused with the statements for the tables' owner.
    """
    for missing in find_missing(connection, role, tables):
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(_build_grant(missing, role))
        except ProgrammingError as error:
            if error.connection_invalidated:
                raise
    problems = [
        f"Role {role}, which connection training_db uses, needs {missing.privilege} on "
        f"{missing.object}, which the role that migrates may not grant: let its owner run "
        f"{_build_grant(missing, role)}."
        for missing in find_missing(connection, role, tables)
    ]
    problems += _find_hidden(connection, role, tables)
    if problems:
        raise MigrationRefused(problems)


def require_granted(connection: Connection, role: str, tables: Sequence[str]) -> None:
    """Raise SchemaUnverified if the role cannot read and write the rows of these tables."""
    if missing := find_missing(connection, role, tables):
        raise SchemaUnverified(
            f"Role {role}, which connection training_db uses, lacks "
            + ", ".join(f"{each.privilege} on {each.object}" for each in missing)
            + ": run the Dag migrate_schema, which grants it."
        )
    if hidden := _find_hidden(connection, role, tables):
        raise SchemaUnverified("\n".join(hidden))


def find_missing(connection: Connection, role: str, tables: Iterable[str]) -> Sequence[MissingPrivilege]:
    """Return the rights on these tables that the role needs and does not have."""
    needed = [(table, privilege) for table in tables for privilege in PRIVILEGES[table]]
    return catalog.find_missing_privileges(connection, role, needed)


def _find_hidden(connection: Connection, role: str, tables: Iterable[str]) -> list[str]:
    """Return a sentence for each table whose row-level security hides all rows from the role."""
    name = Identifier(role).as_string()
    return [
        f"Table {table} has row-level security, but no policy for role {role}, which connection training_db "
        "uses: it can neither read nor write a row. Let the table's owner run "
        f"CREATE POLICY {name} ON {table} TO {name} USING (TRUE)."
        for table, has_policy in catalog.find_row_security(connection, role, tables)
        if not has_policy
    ]


def describe_excess(connection: Connection, role: str, tables: Iterable[str]) -> list[str]:
    """Return a warning if the role, which should only read and write rows, can change the schema."""
    reasons = "; ".join(catalog.find_schema_changing_reasons(connection, role, tables))
    if not reasons:
        return []
    warning = f"Role {role}, which connection training_db uses, can change the schema: {reasons}."
    return [f"{warning} docs/deployment.md explains how to separate the two roles."]


def _build_grant(missing: MissingPrivilege, role: str) -> str:
    return f"GRANT {missing.privilege} ON {missing.object} TO {Identifier(role).as_string()}"
