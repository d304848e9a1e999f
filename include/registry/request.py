"""The parameters of `register_dataset`, and the XComs of its tasks."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from include.datasets.errors import DatasetError
from include.datasets.reference import DatasetReference
from include.datasets.registered import DATASET_NAME, DATASET_NAME_RULE, parse_registered
from include.datasets.sources import parse_source
from include.jobs.parameters import OptionalText, Text
from include.limits import TEXT
from include.payload import Payload
from include.registry.version import WarningCount
from include.request import LenientRequest
from include.ultralytics_tasks import Task

REGISTER_DAG = "register_dataset"
WATCH_RUN = "watch__"
"""Prefix of the ids of the runs that `watch_dataset` triggers."""


class RegisterRequest(LenientRequest):
    """Every parameter of `register_dataset`."""

    dag_id = REGISTER_DAG

    name: str = Field(pattern=DATASET_NAME, description=f"Name of the dataset: {DATASET_NAME_RULE}.")
    source: Text = Field(
        description="Where the data are: s3://… (a .zip, a prefix, a data YAML, an .ndjson export or COCO "
        ".json), a path under one of the folders in the workers' DATASET_ROOTS, or 'digits'."
    )
    task: Task = Field("detect", description="The task for which the data are labelled.")
    note: OptionalText = Field(None, max_length=TEXT, description="A note on this version, stored with it.")

    @model_validator(mode="after")
    def _require_address(self) -> Self:
        try:
            if parse_registered(self.source, "source") is not None:
                raise ValueError(
                    f"source={self.source!r} is not an address: give s3://bucket/…, a path or 'digits'"
                )
            parse_source(self.source, self.task, "source")
        except DatasetError as error:
            raise ValueError(str(error)) from None
        return self


class CheckedData(Payload):
    """Checked data that are about to become a version."""

    request: RegisterRequest
    """The parameters of the run."""
    dataset: DatasetReference
    """The checked data: their content, classes and numbers of images."""
    warnings: list[WarningCount] = Field(default_factory=list)
    """The check's warnings, by kind."""
    report: str | None = None
    """The s3:// URI of the complete report of the check."""


class RegisteredVersion(Payload):
    """The version that has the checked content."""

    name: str
    """Name of the dataset."""
    version: int
    """Counted from 1 within the dataset."""
    fingerprint: str
    """Identifies the content."""
    created: bool
    """Whether the version is new; otherwise its content had already been registered."""
