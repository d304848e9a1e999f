"""What is told of a job that is completed, or was stopped: to the platform's backend, and by trainers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from include import limits
from include.jobs.recorded_checkpoint import RecordedCheckpoint, column_names
from include.plain_text import is_plain_line

if TYPE_CHECKING:
    from include.checkpoints.checkpoint import CheckpointKind

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(ge=0, le=2**63 - 1)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
AirflowId = Annotated[str, Field(max_length=250)]
"""As Airflow's own columns have it."""
Uri = Annotated[str, Field(max_length=500)]
"""As the columns of the row have it."""
Metrics = Annotated[
    dict[Annotated[str, Field(max_length=250)], float | None], Field(max_length=limits.METRICS)
]


class TrainingCompletionCallback(BaseModel):
    """The body of the callback: what the job's row says once both checkpoints were verified and recorded.

    The backend gets all of it. A trainer outside Airflow has to give both paths only: what else it gives is
    checked against the objects and the row, and what it leaves out (null) is taken from there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    job_id: Annotated[str, Field(max_length=limits.TEXT)] | None = None
    """Name of the job."""
    status: Literal["completed", "stopped"] = "completed"
    """Whether all of the training was done, or it was stopped on purpose and can be resumed."""
    dag_id: AirflowId | None = None
    """Dag of the run that owns the job."""
    run_id: AirflowId | None = None
    """Run that owns the job."""
    best_checkpoint_path: Uri
    """The s3:// URI of best.pt."""
    best_checkpoint_sha256: Sha256 | None = None
    """Of the whole file, in lower-case hex."""
    best_checkpoint_size: Size | None = None
    """In bytes."""
    last_checkpoint_path: Uri
    """The s3:// URI of last.pt."""
    last_checkpoint_sha256: Sha256 | None = None
    """Of the whole file, in lower-case hex."""
    last_checkpoint_size: Size | None = None
    """In bytes."""
    epoch: Count | None = None
    """Last finished epoch, counted from 0."""
    epochs: Count | None = None
    """Planned number of epochs."""
    metrics: Metrics | None = None
    """Of best.pt on the validation split, named as in Ultralytics' results.csv."""

    def checkpoint(self, kind: CheckpointKind) -> RecordedCheckpoint:
        """Return what is told of best.pt or last.pt."""
        return RecordedCheckpoint(*(getattr(self, column) for column in column_names(kind)))

    @field_validator("*")
    @classmethod
    def _plain(cls, value: object) -> object:
        """Refuse names that would do something to the screen of whoever reads them."""
        texts = value if isinstance(value, dict) else [value]
        if any(isinstance(text, str) and not is_plain_line(text) for text in texts):
            raise ValueError(
                "it contains control characters or characters that reverse the text; remove them"
            )
        return value
