"""Add a job's progress within an epoch, its useful and its lost training time, and when it is to stop."""

from __future__ import annotations

from alembic import op

from include.schema.adoption import add_missing
from include.schema.columns import Column
from include.schema.revision import Revision, open_revision

revision = "0007"
down_revision = "0006"

COLUMNS = {
    "training_jobs": (
        Column("epoch_batch", "integer"),
        Column("epoch_batches", "integer"),
        Column("durable_batch", "integer"),
        Column("trained_seconds", "double precision"),
        Column("lost_seconds", "double precision"),
        Column("stop_after_epoch", "boolean"),
    )
}


def upgrade() -> None:
    """Add the columns that are missing."""
    with open_revision(revision, op.get_context()) as step:
        add_missing(step, "training_jobs", COLUMNS["training_jobs"])


def downgrade() -> None:
    """Remove what upgrade added."""
    Revision(revision, op.get_context()).drop_created()
