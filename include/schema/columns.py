"""The columns that the code relies on, and which columns of an existing table can stand in for them."""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_JOB_ID = 128
LONGEST_CHECKPOINT_PATH = len("s3://") + 63 + len("/checkpoints/") + LONGEST_JOB_ID + len("/best.pt")
"""Of s3://{bucket}/checkpoints/{job_id}/best.pt; the name of a bucket has up to 63 characters."""
LONGEST_VERSION_PATH = (
    len("s3://") + 63 + len("/models/") + LONGEST_JOB_ID + len("/versions/2147483647/best.pt")
)
"""Of s3://{bucket}/models/{name}/versions/{version}/best.pt; a model's name is as long as a job's id."""
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
    """A column of ours, as the migration creates it.

    type is spelt as PostgreSQL reports it. longest is how long a text written into it can be (None: any
    length), which a column of an existing table has to hold. values are all that is ever written into it,
    where that is known: an enum may stand in then. always_written says that NULL never is.
    """

    name: str
    type: str
    default: str | None = None
    required: bool = False
    longest: int | None = None
    values: tuple[str, ...] = ()
    always_written: bool = False

    @property
    def definition(self) -> str:
        """The column in a table of our own."""
        default = f" DEFAULT {self.default}" if self.default else ""
        return f"{self.name} {self.type}{default}{' NOT NULL' if self.required else ''}"


@dataclass(frozen=True)
class ActualColumn:
    """A column as the database has it. kind is PostgreSQL's letter: b base type, e enum, d domain."""

    name: str
    type: str
    base_type: str
    length: int | None
    kind: str
    nullable: bool
    has_default: bool
    generated: bool


def objection(table: str, expected: Column, actual: ActualColumn) -> str | None:
    """Say why `actual` cannot stand in for `expected`, and what to do about it. None if it can."""
    where = f"Column {table}.{expected.name}"
    alter = f"ALTER TABLE {table} ALTER COLUMN {expected.name}"
    if actual.generated:
        return f"{where} is computed by the database, but is to be written: rename it."
    if not _stands_in(expected, actual):
        return (
            f"{where} has type {actual.type}, but must be {expected.type}: rename it, "
            f"or convert it with {alter} TYPE {expected.type} USING {expected.name}::{expected.type}."
        )
    if not _long_enough(expected, actual):
        return (
            f"{where} has type {actual.type}, too short for what is written into it "
            f"({expected.longest or 'any number of'} characters): {alter} TYPE {expected.type}."
        )
    if not actual.nullable and not (expected.required or expected.always_written):
        return f"{where} is NOT NULL, but is empty while a job waits or trains: {alter} DROP NOT NULL."
    return None


def caution(table: str, expected: Column, actual: ActualColumn) -> str | None:
    """Say what to know about an existing column that stands in for ours. None if it is just like ours."""
    if actual.base_type == "timestamp without time zone":
        return (
            f"Column {table}.{expected.name} has no time zone: it is read and written in that of the session."
        )
    if actual.type != expected.type:
        return f"Column {table}.{expected.name} stays {actual.type}; a new table would have {expected.type}."
    return None


def _stands_in(expected: Column, actual: ActualColumn) -> bool:
    if actual.kind == "e":
        return bool(expected.values)
    family = expected.type.partition("(")[0]
    return actual.base_type in _STANDS_IN.get(family, {family})


def _long_enough(expected: Column, actual: ActualColumn) -> bool:
    if actual.base_type != "character varying" or actual.length is None:
        return True
    return expected.longest is not None and actual.length >= expected.longest
