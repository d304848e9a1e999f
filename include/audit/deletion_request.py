"""The parameters of `delete_data`."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from include.datasets.errors import DatasetError
from include.datasets.registered import RegisteredName, parse_registered
from include.jobs.parameters import OptionalText
from include.limits import TEXT
from include.request import LenientRequest

DELETION_DAG = "delete_data"


class DeletionRequest(LenientRequest):
    """The parameters of `delete_data`; exactly one of them must be given."""

    dag_id = DELETION_DAG

    job_id: OptionalText = Field(None, max_length=TEXT, description="The job to delete.")
    dataset: OptionalText = Field(
        None, max_length=TEXT, description="The version of a dataset to delete, such as parts@3."
    )

    @model_validator(mode="after")
    def _require_one(self) -> Self:
        if (self.job_id is None) == (self.dataset is None):
            raise ValueError("give either job_id or dataset")
        if self.dataset is not None:
            self.version  # noqa: B018 - raises an error unless the text names a version
        return self

    @property
    def version(self) -> tuple[str, int] | None:
        """Name and number of the dataset's version; None if a job is to be deleted."""
        if self.dataset is None:
            return None
        try:
            named = parse_registered(self.dataset) or RegisteredName(self.dataset, None)
        except DatasetError as error:
            raise ValueError(str(error)) from None
        if named.version is None:
            raise ValueError(f"dataset={self.dataset!r} does not name a version: give name@version")
        return named.name, named.version
