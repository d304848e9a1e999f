"""Add how long jobs wait for a GPU, and which GPU they get; a job that waits is now `queued`.

Before this revision, a job was `running` from the moment its run claimed it.
"""

from __future__ import annotations

from alembic import op

from include.schema.adoption import add_missing
from include.schema.columns import Column
from include.schema.revision import Revision, open_revision

revision = "0009"
down_revision = "0008"

LONGEST_NAME = 255
"""Maximum length of a machine's name, in characters; also enough for the names of GPUs and drivers."""

COLUMNS = {
    "training_jobs": (
        Column("queued_at", "timestamp with time zone"),
        Column("waited_seconds", "double precision"),
        Column("machine", "text", longest=LONGEST_NAME),
        Column("gpu_name", "text", longest=LONGEST_NAME),
        Column("gpu_driver", "text", longest=LONGEST_NAME),
    )
}

_EMPTY_UNTIL_THEN = Column("started_at", "timestamp with time zone")
"""An adopted table may have this column as NOT NULL, which was fine before this revision."""

# Since revision 0003, every attempt writes its number, and a run that takes over a job removes that number.
_WAITS = """\
dag_id::text = 'train_yolo'
    AND origin_run_id IS NOT NULL
    AND attempt IS NULL"""

_TO_QUEUED = f"""\
UPDATE training_jobs
SET
    status = 'queued',
    queued_at = CASE
        WHEN epoch IS NULL AND durable_epoch IS NULL THEN started_at
        ELSE updated_at
    END,
    started_at = CASE WHEN epoch IS NOT NULL OR durable_epoch IS NOT NULL THEN started_at END
WHERE status::text = 'running'
    AND {_WAITS}"""  # noqa: S608 - constants

_TO_RUNNING = """\
UPDATE training_jobs
SET
    status = 'running',
    started_at = COALESCE(started_at, queued_at)
WHERE status::text = 'queued'
    AND dag_id::text = 'train_yolo'
    AND run_id IS NOT NULL"""


def upgrade() -> None:
    """Add the columns that are missing, and mark waiting jobs as queued."""
    with open_revision(revision, op.get_context()) as step:
        add_missing(step, "training_jobs", (*COLUMNS["training_jobs"], _EMPTY_UNTIL_THEN))
        step.execute(_TO_QUEUED)


def downgrade() -> None:
    """Mark waiting jobs as running, as the code before this revision did, and remove what upgrade added."""
    step = Revision(revision, op.get_context())
    step.execute(_TO_RUNNING)
    step.drop_created()
