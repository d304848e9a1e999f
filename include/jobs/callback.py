"""The payload that reports a completed or stopped job: to a host application, or from an external trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from include import limits
from include.jobs.recorded_checkpoint import RecordedCheckpoint, name_columns
from include.plain_text import is_plain_line

if TYPE_CHECKING:
    from include.checkpoints.checkpoint import CheckpointKind

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(ge=0, le=2**63 - 1)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
AirflowId = Annotated[str, Field(max_length=250)]
"""Limited to the length of Airflow's own columns."""
Uri = Annotated[str, Field(max_length=500)]
"""Limited to the length of the row's columns."""
Metrics = Annotated[
    dict[Annotated[str, Field(max_length=250)], float | None], Field(max_length=limits.METRICS)
]


class TrainingCompletionCallback(BaseModel):
    """Body of the callback: the job's row once both checkpoints have been verified and recorded.

    The backend of a host application gets every field. From a trainer outside Airflow, the two paths are
    enough. Hashes and sizes that it gives are compared with the objects, and ids with the row. Status, epoch,
    epochs and metrics are recorded as given. Omitted (null) values are taken from the objects in S3 and the
    job's row.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    job_id: Annotated[str, Field(max_length=limits.TEXT)] | None = None
    """Name of the job."""
    status: Literal["completed", "stopped"] = "completed"
    """Whether training finished, or was stopped on purpose and can be resumed."""
    dag_id: AirflowId | None = None
    """Dag of the run that owns the job."""
    run_id: AirflowId | None = None
    """Run that owns the job."""
    best_checkpoint_path: Uri
    """The s3:// URI of best.pt."""
    best_checkpoint_sha256: Sha256 | None = None
    """SHA-256 of the whole file, in lower-case hex."""
    best_checkpoint_size: Size | None = None
    """Size in bytes."""
    last_checkpoint_path: Uri
    """The s3:// URI of last.pt."""
    last_checkpoint_sha256: Sha256 | None = None
    """SHA-256 of the whole file, in lower-case hex."""
    last_checkpoint_size: Size | None = None
    """Size in bytes."""
    epoch: Count | None = None
    """Last finished epoch, counted from 0."""
    epochs: Count | None = None
    """Planned number of epochs."""
    metrics: Metrics | None = None
    """Metrics of best.pt on the validation split, named as in Ultralytics' results.csv."""

    def get_checkpoint(self, kind: CheckpointKind) -> RecordedCheckpoint:
        """Return the callback's path, hash and size of best.pt or last.pt."""
        return RecordedCheckpoint(*(getattr(self, column) for column in name_columns(kind)))

    @field_validator("*")
    @classmethod
    def _check_plain_text(cls, value: object) -> object:
        """Refuse names that could manipulate the terminal or page that shows them."""
        texts = value if isinstance(value, dict) else [value]
        if any(isinstance(text, str) and not is_plain_line(text) for text in texts):
            raise ValueError(
                "it contains control characters, invisible characters or characters that reverse the text; "
                "remove them"
            )
        return value
