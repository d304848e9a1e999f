"""Add versions of datasets, and for each job which version and which content it was trained on."""

from __future__ import annotations

from alembic import op

from include.schema.adoption import add_missing, has_own_table, require_empty
from include.schema.columns import LONGEST_DATASET_NAME, LONGEST_RUN_ID, Column
from include.schema.revision import Revision, open_revision

revision = "0011"
down_revision = "0010"

COLUMNS = {
    "training_jobs": (
        Column("dataset_name", "text", longest=LONGEST_DATASET_NAME),
        Column("dataset_version", "integer"),
        Column("dataset_fingerprint", "character varying(64)", longest=64),
        Column("class_table", "jsonb"),
    ),
    "datasets": (
        Column("name", "text", required=True),
        Column("version", "integer", required=True),
        Column("fingerprint", "character varying(64)", required=True, longest=64),
        Column("source", "text", required=True),
        Column("origin", "text"),
        Column("task", "text", required=True),
        Column("train_images", "integer", required=True),
        Column("val_images", "integer", required=True),
        Column("size", "bigint", required=True),
        Column("class_table", "jsonb"),
        Column("warnings", "jsonb"),
        Column("report", "text"),
        Column("note", "text"),
        Column("run_id", "text", longest=LONGEST_RUN_ID),
        Column("created_by", "text"),
        Column("created_at", "timestamp with time zone", "now()", required=True),
        Column("archived_at", "timestamp with time zone"),
    ),
    "dataset_numbers": (
        Column("name", "text", required=True),
        Column("last_version", "integer", required=True),
    ),
}

JOB_INDEXES = {
    "training_schema_dataset_version": (
        "(dataset_name, dataset_version, (COALESCE(created_at, '-infinity')), job_id) "
        "WHERE dataset_name IS NOT NULL"
    ),
    "training_schema_dataset_fingerprint": "(dataset_fingerprint) WHERE dataset_fingerprint IS NOT NULL",
}
"""Find the jobs of a version, in the order of the list, and those that were trained on the same content."""

DATASET_INDEXES = {
    "datasets_fingerprint": "(fingerprint)",
    "datasets_run": "(run_id)",
}


def upgrade() -> None:
    """Add the columns and the tables that are missing, with their indexes."""
    with open_revision(revision, op.get_context()) as step:
        is_repeated = has_own_table(step, "datasets", COLUMNS["datasets"])
        if not is_repeated:  # then another application wrote any values in columns of these names
            require_empty(step, "training_jobs", COLUMNS["training_jobs"])
        add_missing(step, "training_jobs", COLUMNS["training_jobs"])
        step.create_indexes("training_jobs", JOB_INDEXES)
        if not is_repeated:
            step.create_table(
                "datasets",
                COLUMNS["datasets"],
                "PRIMARY KEY (name, version)",
                "CONSTRAINT datasets_version CHECK (version >= 1)",
            )
            step.create_indexes("datasets", DATASET_INDEXES)
        if not has_own_table(step, "dataset_numbers", COLUMNS["dataset_numbers"]):
            step.create_table("dataset_numbers", COLUMNS["dataset_numbers"], "PRIMARY KEY (name)")


def downgrade() -> None:
    """Remove what upgrade added."""
    Revision(revision, op.get_context()).drop_created()
