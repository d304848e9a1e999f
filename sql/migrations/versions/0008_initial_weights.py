"""The weights that a training began with: where they are, and their hash."""

from __future__ import annotations

from alembic import op

from include.schema.adoption import add_missing
from include.schema.columns import Column
from include.schema.revision import Revision, creating

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
    with creating(revision, op.get_context()) as here:
        add_missing(here, "training_jobs", COLUMNS["training_jobs"])


def downgrade() -> None:
    """Remove those that upgrade added."""
    Revision(revision, op.get_context()).drop_created()
