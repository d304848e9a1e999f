"""Add promoted models, audit findings, and which training states were pinned or expired."""

from __future__ import annotations

from alembic import op

from include.schema.adoption import add_missing, has_own_table
from include.schema.columns import LONGEST_RUN_ID, LONGEST_VERSION_PATH, Column
from include.schema.revision import Revision, open_revision

revision = "0004"
down_revision = "0003"

STAGES = ("candidate", "production", "archived", "rejected")

COLUMNS = {
    "training_jobs": (
        Column("pinned", "boolean"),
        Column("last_checkpoint_expired_at", "timestamp with time zone"),
    ),
    "model_versions": (
        Column("name", "text", required=True),
        Column("version", "integer", required=True),
        Column("job_id", "text", required=True),
        Column("run_id", "text", longest=LONGEST_RUN_ID),
        Column("stage", "text", "'candidate'", required=True, values=STAGES),
        Column("path", "character varying(500)", required=True, longest=LONGEST_VERSION_PATH),
        Column("sha256", "character varying(64)", required=True, longest=64),
        Column("size", "bigint", required=True),
        Column("dataset", "text"),
        Column("dataset_fingerprint", "text"),
        Column("parameters_fingerprint", "text"),
        Column("metrics", "jsonb"),
        Column("champion_version", "integer"),
        Column("champion_metrics", "jsonb"),
        Column("reason", "text"),
        Column("promoted_by", "text"),
        Column("promoted_at", "timestamp with time zone"),
        Column("created_at", "timestamp with time zone", "now()", required=True),
    ),
    "checkpoint_audits": (
        Column("run_id", "text", required=True),
        Column("finding", "text", required=True),
        Column("job_id", "text"),
        Column("path", "text"),
        Column("detail", "text", required=True),
        Column("repair", "text"),
        Column("size", "bigint"),
        Column("found_at", "timestamp with time zone", "now()", required=True),
    ),
}


def upgrade() -> None:
    """Add the columns and tables that are missing."""
    with open_revision(revision, op.get_context()) as step:
        add_missing(step, "training_jobs", COLUMNS["training_jobs"])
        if not has_own_table(step, "model_versions", COLUMNS["model_versions"]):
            _create_versions(step)
        if not has_own_table(step, "checkpoint_audits", COLUMNS["checkpoint_audits"]):
            _create_audits(step)


def downgrade() -> None:
    """Remove what upgrade added."""
    Revision(revision, op.get_context()).drop_created()


def _create_versions(step: Revision) -> None:
    stages = ", ".join(f"'{stage}'" for stage in STAGES)
    step.create_table(
        "model_versions",
        COLUMNS["model_versions"],
        "PRIMARY KEY (name, version)",
        "CONSTRAINT model_versions_job UNIQUE (name, job_id)",
        f"CONSTRAINT model_versions_stage CHECK (stage IN ({stages}))",
    )
    step.create(
        "index",
        "model_versions",
        "model_versions_production",
        "CREATE UNIQUE INDEX model_versions_production ON model_versions (name) WHERE stage = 'production'",
    )


def _create_audits(step: Revision) -> None:
    step.create_table(
        "checkpoint_audits",
        COLUMNS["checkpoint_audits"],
        "id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    )
    step.create(
        "index",
        "checkpoint_audits",
        "checkpoint_audits_run",
        "CREATE INDEX checkpoint_audits_run ON checkpoint_audits (run_id)",
    )
