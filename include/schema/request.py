"""The parameters of a run of `migrate_schema`."""

from __future__ import annotations

from pydantic import Field

from include.request import Request


class MigrationRequest(Request):
    """Every parameter of `migrate_schema`. The form in Airflow's UI is generated from this class."""

    dag_id = "migrate_schema"

    target: str = Field(
        "head",
        min_length=1,
        max_length=64,
        description="Where to migrate to: head (the newest revision), a revision such as 0001, a number of "
        "steps from the current one such as +1 or -1, or base (removes everything of ours).",
    )
    dry_run: bool = Field(
        False,
        description="Only plan: show the SQL and anything that blocks it, and change nothing.",
    )
    confirm_data_loss: bool = Field(
        False,
        description="Allow a downgrade to drop our own columns and tables even if they hold data. The table "
        "of an existing host application is never dropped.",
    )
