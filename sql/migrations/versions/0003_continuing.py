"""Add what a training run needs to resume: its durable state, the run it belongs to, the owning attempt."""

from __future__ import annotations

from alembic import op

from include.schema.adoption import add_missing
from include.schema.columns import LONGEST_RUN_ID, Column
from include.schema.revision import Revision, open_revision

revision = "0003"
down_revision = "0002"

COLUMNS = {
    "training_jobs": (
        Column("durable_epoch", "integer"),
        Column("resumed_epoch", "integer"),
        Column("origin_run_id", "text", longest=LONGEST_RUN_ID, always_written=True),
        Column("attempt", "integer"),
        Column("inexact_reason", "text"),
    )
}


def upgrade() -> None:
    """Add the columns that are missing."""
    with open_revision(revision, op.get_context()) as step:
        add_missing(step, "training_jobs", COLUMNS["training_jobs"])


def downgrade() -> None:
    """Remove what upgrade added."""
    Revision(revision, op.get_context()).drop_created()
