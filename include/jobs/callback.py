"""What is told to the platform's backend when a job is completed, or was stopped on purpose."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class TrainingCompletionCallback(BaseModel):
    """The body of the callback: what the job's row says once both checkpoints were verified and recorded.

    status tells whether all of the training was done, or it was stopped on purpose and can be resumed.
    Paths are s3:// URIs, sha256 is of the whole file in lower-case hex, sizes are in bytes. epoch counts
    from 0; metrics are those of best.pt on the validation split, named as in Ultralytics' results.csv.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    job_id: str
    status: Literal["completed", "stopped"]
    dag_id: str
    run_id: str
    best_checkpoint_path: str
    best_checkpoint_sha256: str
    best_checkpoint_size: int
    last_checkpoint_path: str
    last_checkpoint_sha256: str
    last_checkpoint_size: int
    epoch: int
    epochs: int
    metrics: dict[str, float | None]
