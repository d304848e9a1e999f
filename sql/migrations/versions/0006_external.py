"""Whose checkpoints a job has: those of a training here, or what somebody uploaded and said is complete."""

from __future__ import annotations

from alembic import op

from include.schema.adoption import add_missing
from include.schema.columns import Column
from include.schema.revision import Revision, creating

revision = "0006"
down_revision = "0005"

COLUMNS = {
    "training_jobs": (
        Column("origin", "text", longest=len("external"), values=("external",)),
        Column("checkpoint_uploader", "text"),
        Column("checkpoint_finding", "text"),
    )
}


def upgrade() -> None:
    """Add the columns that are missing."""
    with creating(revision, op.get_context()) as here:
        add_missing(here, "training_jobs", COLUMNS["training_jobs"])


def downgrade() -> None:
    """Remove those that upgrade added."""
    Revision(revision, op.get_context()).drop_created()
