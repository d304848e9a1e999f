"""Create the tables of jobs and of their finished epochs."""

from __future__ import annotations

from alembic import op

from include.schema import catalog
from include.schema.adoption import adopt_jobs, has_own_table
from include.schema.columns import LONGEST_CHECKPOINT_PATH, LONGEST_JOB_ID, LONGEST_RUN_ID, Column
from include.schema.revision import Revision, open_revision

revision = "0001"
down_revision = None

STATUSES = ("queued", "running", "completed", "failed", "stopped")

COLUMNS = {
    "training_jobs": (
        # Any length will do: a host application's own column may be too short for our longest ids.
        Column("job_id", "text", required=True, longest=1),
        Column(
            "status",
            "text",
            "'queued'",
            required=True,
            longest=len("completed"),
            values=STATUSES,
        ),
        Column("stop_requested", "boolean", "FALSE", required=True),
        Column("dag_id", "text", longest=LONGEST_RUN_ID, always_written=True),
        Column("run_id", "text", longest=LONGEST_RUN_ID, always_written=True),
        Column("parent_job_id", "text", longest=LONGEST_JOB_ID),
        Column("spec", "jsonb", always_written=True),
        Column("epoch", "integer"),
        Column("epochs", "integer"),
        Column("metrics", "jsonb"),
        Column("best_checkpoint_path", "character varying(500)", longest=LONGEST_CHECKPOINT_PATH),
        Column("best_checkpoint_sha256", "character varying(64)", longest=64),
        Column("best_checkpoint_size", "bigint"),
        Column("error", "text"),
        Column("triggered_by", "text", longest=LONGEST_RUN_ID),
        Column("created_at", "timestamp with time zone", "now()", required=True),
        Column("started_at", "timestamp with time zone"),
        Column("completed_at", "timestamp with time zone"),
        Column("updated_at", "timestamp with time zone", "now()", required=True),
    ),
    # No foreign key: it would block a host application's own DELETE and TRUNCATE.
    "training_epochs": (
        Column("job_id", "text", required=True),
        Column("epoch", "integer", required=True),
        Column("metrics", "jsonb", required=True),
        Column("fitness", "double precision"),
        Column("seconds", "double precision"),
        Column("eta_seconds", "double precision"),
        Column("recorded_at", "timestamp with time zone", "now()", required=True),
    ),
}


def upgrade() -> None:
    """Create both tables, or adopt a host application's existing table of jobs and create only the other."""
    with open_revision(revision, op.get_context()) as step:
        step.create_journal()
        _create_or_adopt_jobs(step)
        epochs = COLUMNS["training_epochs"]
        if not has_own_table(step, "training_epochs", epochs):
            step.create_table("training_epochs", epochs, "PRIMARY KEY (job_id, epoch)")


def downgrade() -> None:
    """Remove what upgrade created, but never an adopted table."""
    step = Revision(revision, op.get_context())
    step.drop_created()
    step.drop_journal()


def _create_or_adopt_jobs(step: Revision) -> None:
    if catalog.read_table_kind(step.connection, "training_jobs"):
        adopt_jobs(step, "training_jobs", COLUMNS["training_jobs"])
    else:
        statuses = ", ".join(f"'{status}'" for status in STATUSES)
        step.create_table(
            "training_jobs",
            COLUMNS["training_jobs"],
            "PRIMARY KEY (job_id)",
            f"CONSTRAINT training_jobs_status CHECK (status IN ({statuses}))",
        )
