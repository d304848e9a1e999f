"""Add the path and hash of the weights that a training run started from."""

from __future__ import annotations

from alembic import op

from include.schema.adoption import add_missing
from include.schema.columns import Column
from include.schema.revision import Revision, open_revision

revision = "0008"
down_revision = "0007"

COLUMNS = {
    "training_jobs": (
        Column("initial_weights_path", "text"),
        Column("initial_weights_sha256", "character varying(64)", longest=64),
    )
}


def upgrade() -> None:
    """Add the columns that are missing."""
    with open_revision(revision, op.get_context()) as step:
        add_missing(step, "training_jobs", COLUMNS["training_jobs"])


def downgrade() -> None:
    """Remove what upgrade added."""
    Revision(revision, op.get_context()).drop_created()
