"""What a run of `migrate_schema` is asked for."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from include.errors import FinalError
from include.refusals import sentence
from include.schema.errors import SchemaError


class MigrationRequestRefused(SchemaError, FinalError):
    """The run's conf is not what `migrate_schema` takes."""


class MigrationRequest(BaseModel):
    """Every parameter of `migrate_schema`. The form in Airflow's UI is generated from it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

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
        "of an existing platform is never dropped.",
    )

    @classmethod
    def parse(cls, conf: dict[str, Any]) -> MigrationRequest:
        """Validate the run's `conf`. Raises MigrationRequestRefused with field and value."""
        try:
            return cls.model_validate(conf)
        except ValidationError as error:
            raise MigrationRequestRefused(sentence(error, cls, "migrate_schema")) from None
