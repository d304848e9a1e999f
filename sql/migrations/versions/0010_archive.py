"""Add archived jobs: they are kept, and lists can omit them."""

from __future__ import annotations

from alembic import op

from include.schema.adoption import add_missing
from include.schema.columns import Column
from include.schema.revision import Revision, open_revision

revision = "0010"
down_revision = "0009"

COLUMNS = {"training_jobs": (Column("archived_at", "timestamp with time zone"),)}

INDEXES = {
    "training_schema_archived": "((COALESCE(created_at, '-infinity')), job_id) WHERE archived_at IS NOT NULL"
}
"""Finds a few archived jobs among a million others, in the order of the list."""


def upgrade() -> None:
    """Add the column if it is missing, and its index."""
    with open_revision(revision, op.get_context()) as step:
        add_missing(step, "training_jobs", COLUMNS["training_jobs"])
        step.create_indexes("training_jobs", INDEXES)


def downgrade() -> None:
    """Remove what upgrade added."""
    Revision(revision, op.get_context()).drop_created()
