"""Add the origin of a job's checkpoints: a training run here, or an upload reported as complete."""

from __future__ import annotations

from alembic import op

from include.schema.adoption import add_missing
from include.schema.columns import Column
from include.schema.revision import Revision, open_revision

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
    with open_revision(revision, op.get_context()) as step:
        add_missing(step, "training_jobs", COLUMNS["training_jobs"])


def downgrade() -> None:
    """Remove what upgrade added."""
    Revision(revision, op.get_context()).drop_created()
