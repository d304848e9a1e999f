"""Add indexes, so that lists, filters and lineage are as fast for a million jobs as for a thousand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import op

from include.schema import catalog
from include.schema.revision import Revision, open_revision

if TYPE_CHECKING:
    from include.schema.columns import Column

revision = "0005"
down_revision = "0004"

COLUMNS: dict[str, tuple[Column, ...]] = {}

TABLE = "training_jobs"

_NEWEST = "(COALESCE(created_at, '-infinity')), job_id"
"""The order of the list. A host application may leave created_at empty, but every row needs a position."""

# A host application may have written values of any length, but index entries must be short.
_DATASET = "(left(spec ->> 'dataset', 250))"
_MODEL = "(left(spec ->> 'model', 250))"

# The columns after those of the list's order let a second filter work without access to the table.
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
    with open_revision(revision, op.get_context()) as step:
        spec = catalog.read_columns(step.connection, TABLE)["spec"]
        indexed = INDEXES
        if spec.base_type != "jsonb":
            step.warn(
                f"{TABLE}.spec is {spec.type}, not jsonb: it cannot be indexed, and searching it is slow."
            )
            indexed = {name: columns for name, columns in INDEXES.items() if "spec" not in columns}
        step.create_indexes(TABLE, indexed)


def downgrade() -> None:
    """Remove what upgrade created."""
    Revision(revision, op.get_context()).drop_created()
