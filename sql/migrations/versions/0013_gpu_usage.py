"""Add how long each attempt at a training run had its GPUs, and which jobs wait for their user's quota."""

from __future__ import annotations

from alembic import op

from include.schema.adoption import add_missing, has_own_table
from include.schema.columns import LONGEST_JOB_ID, Column
from include.schema.revision import Revision, open_revision

revision = "0013"
down_revision = "0012"

COLUMNS = {
    "training_jobs": (Column("waits_for_quota", "boolean"),),
    "gpu_usage": (
        Column("job_id", "text", required=True, longest=LONGEST_JOB_ID),
        Column("triggered_by", "text"),
        Column("gpus", "integer", required=True),
        Column("started_at", "timestamp with time zone", required=True),
        Column("seen_at", "timestamp with time zone", required=True),
    ),
}

INDEXES = {"gpu_usage_seen": "(seen_at)"}
"""Finds the usage since a Monday quickly among the attempts of many years."""


def upgrade() -> None:
    """Add the column and the table if they are missing."""
    with open_revision(revision, op.get_context()) as step:
        add_missing(step, "training_jobs", COLUMNS["training_jobs"])
        if not has_own_table(step, "gpu_usage", COLUMNS["gpu_usage"]):
            step.create_table(
                "gpu_usage",
                COLUMNS["gpu_usage"],
                "PRIMARY KEY (job_id, started_at)",
                "CONSTRAINT gpu_usage_gpus CHECK (gpus >= 1)",
            )
            step.create_indexes("gpu_usage", INDEXES)


def downgrade() -> None:
    """Remove what upgrade added."""
    Revision(revision, op.get_context()).drop_created()
