"""Add the SHA-256 of the signature of a promoted version of a model."""

from __future__ import annotations

from alembic import op

from include.schema.adoption import add_missing
from include.schema.columns import Column
from include.schema.revision import Revision, open_revision

revision = "0012"
down_revision = "0011"

COLUMNS = {"model_versions": (Column("signature_sha256", "character varying(64)", longest=64),)}


def upgrade() -> None:
    """Add the column if it is missing."""
    with open_revision(revision, op.get_context()) as step:
        add_missing(step, "model_versions", COLUMNS["model_versions"])


def downgrade() -> None:
    """Remove what upgrade added."""
    Revision(revision, op.get_context()).drop_created()
