"""Add the path, hash and size of the resumable checkpoint, beside those of the deployable one."""

from __future__ import annotations

from alembic import op

from include.schema.adoption import add_missing
from include.schema.columns import LONGEST_CHECKPOINT_PATH, Column
from include.schema.revision import Revision, open_revision

revision = "0002"
down_revision = "0001"

COLUMNS = {
    "training_jobs": (
        Column("last_checkpoint_path", "character varying(500)", longest=LONGEST_CHECKPOINT_PATH),
        Column("last_checkpoint_sha256", "character varying(64)", longest=64),
        Column("last_checkpoint_size", "bigint"),
    )
}


def upgrade() -> None:
    """Add the columns that are missing."""
    with open_revision(revision, op.get_context()) as step:
        add_missing(step, "training_jobs", COLUMNS["training_jobs"])


def downgrade() -> None:
    """Remove what upgrade added."""
    Revision(revision, op.get_context()).drop_created()
