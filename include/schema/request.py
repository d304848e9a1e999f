"""The parameters of a run of `migrate_schema`."""

from __future__ import annotations

from pydantic import Field

from include.request import Request


class MigrationRequest(Request):
    """Every parameter of `migrate_schema`."""

    dag_id = "migrate_schema"

    target: str = Field(
        "head",
        min_length=1,
        max_length=64,
        description="Revision to migrate to: head (the newest), a revision such as 0001, a number of steps "
        "such as +1 or -1, or base (removes everything that this project created).",
    )
    dry_run: bool = Field(
        False,
        description="Change nothing; only show the SQL that would run, and anything that blocks it.",
    )
    confirm_data_loss: bool = Field(
        False,
        description="Allow a downgrade to drop this project's columns and tables even if they contain data. "
        "The table of an existing host application is never dropped.",
    )
