"""Jobs that people have archived: they stay, and lists leave them out where that is asked for."""

from __future__ import annotations

from alembic import op

from include.schema.adoption import add_missing
from include.schema.columns import Column
from include.schema.revision import Revision, creating

revision = "0010"
down_revision = "0009"

COLUMNS = {"training_jobs": (Column("archived_at", "timestamp with time zone"),)}

INDEXES = {
    "training_schema_archived": "((COALESCE(created_at, '-infinity')), job_id) WHERE archived_at IS NOT NULL"
}
"""Finds the few that are archived among a million that are not, in the order of the list."""


def upgrade() -> None:
    """Add the column if it is missing, and its index."""
    with creating(revision, op.get_context()) as here:
        add_missing(here, "training_jobs", COLUMNS["training_jobs"])
        here.create_indexes("training_jobs", INDEXES)


def downgrade() -> None:
    """Remove what upgrade added."""
    Revision(revision, op.get_context()).drop_created()
