"""Indexes by which jobs are listed, filtered and followed: a million rows take the time of a thousand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import op

from include.schema import catalog
from include.schema.revision import Revision, creating

if TYPE_CHECKING:
    from include.schema.columns import Column

revision = "0005"
down_revision = "0004"

COLUMNS: dict[str, tuple[Column, ...]] = {}

TABLE = "training_jobs"

_NEWEST = "(COALESCE(created_at, '-infinity')), job_id"
"""The order of the list. A platform may leave created_at empty, and pages need a place for every row."""

# Of what a platform wrote there any length is possible, but an entry of an index is short.
_DATASET = "(left(spec ->> 'dataset', 250))"
_MODEL = "(left(spec ->> 'model', 250))"

# What follows the order of the list is for a second filter: it is decided without a look at the table.
INDEXES = {
    "training_schema_newest": f"({_NEWEST})",
    "training_schema_status": f"(status, {_NEWEST})",
    "training_schema_dataset": f"({_DATASET}, {_NEWEST}, {_MODEL}, status)",
    "training_schema_model": f"({_MODEL}, {_NEWEST}, status)",
    "training_schema_dag": f"(dag_id, {_NEWEST})",
    "training_schema_run": "(run_id)",
    "training_schema_parent": f"(parent_job_id, {_NEWEST})",
    "training_schema_prefix": "(job_id text_pattern_ops) INCLUDE (created_at, status)",
}


def upgrade() -> None:
    """Create the indexes."""
    with creating(revision, op.get_context()) as here:
        spec = catalog.columns(here.connection, TABLE)["spec"]
        indexed = INDEXES
        if spec.base_type != "jsonb":
            here.warn(
                f"{TABLE}.spec is {spec.type}, not jsonb: it gets no index, and a search in it is slow."
            )
            indexed = {name: columns for name, columns in INDEXES.items() if "spec" not in columns}
        here.create_indexes(TABLE, indexed)


def downgrade() -> None:
    """Remove those that upgrade created."""
    Revision(revision, op.get_context()).drop_created()
