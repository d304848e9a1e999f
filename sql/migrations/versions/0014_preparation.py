"""Add the progress of preparing the data of a job whose training has not begun yet."""

from __future__ import annotations

from alembic import op

from include.schema.adoption import add_missing
from include.schema.columns import Column
from include.schema.revision import Revision, open_revision

revision = "0014"
down_revision = "0013"

COLUMNS = {"training_jobs": (Column("preparation", "text"),)}


def upgrade() -> None:
    """Add the column if it is missing."""
    with open_revision(revision, op.get_context()) as step:
        add_missing(step, "training_jobs", COLUMNS["training_jobs"])


def downgrade() -> None:
    """Remove what upgrade added."""
    Revision(revision, op.get_context()).drop_created()
