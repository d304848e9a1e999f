"""How long jobs wait for their GPU and which one they get: until then a job is queued, and not started.

Before this revision a job was `running` from the moment at which its run took it.
"""

from __future__ import annotations

from alembic import op

from include.schema.adoption import add_missing
from include.schema.columns import Column
from include.schema.revision import Revision, creating

revision = "0009"
down_revision = "0008"

LONGEST_NAME = 255
"""Of a machine, and enough for a GPU."""

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
"""A table that was adopted may have it as NOT NULL, which was enough until now."""

# Since revision 0003 every attempt writes its number, and who takes a job over removes it.
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
    """Add the columns that are missing, and say of jobs that wait that they do."""
    with creating(revision, op.get_context()) as here:
        add_missing(here, "training_jobs", (*COLUMNS["training_jobs"], _EMPTY_UNTIL_THEN))
        here.execute(_TO_QUEUED)


def downgrade() -> None:
    """Say of jobs that wait what the code before this revision said, and remove what upgrade added."""
    here = Revision(revision, op.get_context())
    here.execute(_TO_RUNNING)
    here.drop_created()
