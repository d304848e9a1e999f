"""How migrations declare our columns, and when an existing column can stand in for one of them."""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_JOB_ID = 128
LONGEST_CHECKPOINT_PATH = len("s3://") + 63 + len("/checkpoints/") + LONGEST_JOB_ID + len("/best.pt")
"""Length of s3://{bucket}/checkpoints/{job_id}/best.pt; a bucket name has up to 63 characters."""
LONGEST_VERSION_PATH = (
    len("s3://") + 63 + len("/models/") + LONGEST_JOB_ID + len("/versions/2147483647/best.pt")
)
"""Length of s3://{bucket}/models/{name}/versions/{version}/best.pt; names may be as long as job ids."""
LONGEST_DATASET_NAME = LONGEST_JOB_ID
LONGEST_RUN_ID = 250
"""Airflow's own limit for the ids of Dags and runs."""

_TEXT = frozenset({"text", "character varying"})
_STANDS_IN = {
    "text": _TEXT,
    "character varying": _TEXT,
    "jsonb": frozenset({"jsonb", "json"}),
    "integer": frozenset({"integer", "bigint"}),
    "timestamp with time zone": frozenset({"timestamp with time zone", "timestamp without time zone"}),
}


@dataclass(frozen=True)
class Column:
    """One of our columns, as the migration creates it."""

    name: str
    """Lower case, so that it needs no quotes in SQL."""
    type: str
    """Spelt as PostgreSQL reports it."""
    default: str | None = None
    """SQL expression of the default; None for no default."""
    required: bool = False
    """Whether the column is NOT NULL in our own table."""
    longest: int | None = None
    """Maximum length of the text written to the column; None for any length. An existing column must be at
    least this long."""
    values: tuple[str, ...] = ()
    """All values ever written to the column, if they are known; an existing enum must accept them."""
    always_written: bool = False
    """Whether NULL is never written to the column."""

    @property
    def definition(self) -> str:
        """The column's definition in our own table."""
        default = f" DEFAULT {self.default}" if self.default else ""
        return f"{self.name} {self.type}{default}{' NOT NULL' if self.required else ''}"


@dataclass(frozen=True)
class ActualColumn:
    """A column in the database."""

    name: str
    """Spelt as in the catalog, without quotes."""
    type: str
    """Spelt as PostgreSQL reports it, with its length."""
    base_type: str
    """The type without its length, or the type that a domain is based on."""
    length: int | None
    """Maximum length of a varchar; None for any length."""
    kind: str
    """PostgreSQL's letter for the kind of type: b base type, e enum, d domain."""
    is_nullable: bool
    """Whether the column may contain NULL."""
    has_default: bool
    """Whether a row without a value for the column gets its default."""
    is_generated: bool
    """Whether the database computes the column from others, so that it cannot be written."""


def find_type_objection(table: str, expected: Column, actual: ActualColumn) -> str | None:
    """Return why `actual` cannot stand in for `expected`, and what to do about it; None if it can."""
    where = f"Column {table}.{expected.name}"
    alter = f"ALTER TABLE {table} ALTER COLUMN {expected.name}"
    if actual.is_generated:
        return f"{where} is a generated column, but the trainer writes to it: rename it."
    if not _can_stand_in(expected, actual):
        return (
            f"{where} has type {actual.type}, but must be {expected.type}: rename it, "
            f"or convert it with {alter} TYPE {expected.type} USING {expected.name}::{expected.type}."
        )
    if not _is_long_enough(expected, actual):
        return (
            f"{where} has type {actual.type}, too short for the values written to it "
            f"({expected.longest or 'any number of'} characters): {alter} TYPE {expected.type}."
        )
    if not actual.is_nullable and not (expected.required or expected.always_written):
        return (
            f"{where} is NOT NULL, but stays empty while a job is queued or running: {alter} DROP NOT NULL."
        )
    return None


def describe_difference(table: str, expected: Column, actual: ActualColumn) -> str | None:
    """Return how an existing column that stands in for ours differs from it; None if it does not."""
    if actual.base_type == "timestamp without time zone":
        return (
            f"Column {table}.{expected.name} has no time zone: its values are read and written in the "
            "session's time zone."
        )
    if actual.type != expected.type:
        return f"Column {table}.{expected.name} stays {actual.type}; a new table would have {expected.type}."
    return None


def _can_stand_in(expected: Column, actual: ActualColumn) -> bool:
    if actual.kind == "e":
        return bool(expected.values)
    family = expected.type.partition("(")[0]
    return actual.base_type in _STANDS_IN.get(family, {family})


def _is_long_enough(expected: Column, actual: ActualColumn) -> bool:
    if actual.base_type != "character varying" or actual.length is None:
        return True
    return expected.longest is not None and actual.length >= expected.longest
