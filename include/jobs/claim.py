"""A run's claim to a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from include.datasets.reference import DatasetVersionName


@dataclass(frozen=True)
class JobClaim:
    """A run's claim to a job: the values for the job's row, and the conditions for taking the row."""

    job_id: str
    """Name of the job."""
    dag_id: str
    """Dag of the run that claims the job."""
    run_id: str
    """The run that claims the job."""
    spec: Mapping[str, Any]
    """The parameters, as `ResolvedSpec` writes them."""
    epochs: int | None
    """Planned number of epochs; None keeps the row's."""
    parent_job_id: str | None
    """Job that this job continues, or whose weights it starts from; None if there is none."""
    resumed_epoch: int | None
    """The parent's epoch, counted from 0, after which this job continues; None if it does not continue
    another job."""
    triggered_by: str | None
    """Owner of the job; None if a schedule without a configured owner triggered the run."""
    fresh: bool
    """Whether training starts from scratch if the row belongs to another run."""
    expected_run_id: str | None
    """The row's run_id, as the caller read it; None if there was no row, or the row had no owner."""
    origin_run_id: str | None = None
    """The row's origin_run_id if training starts from scratch; None means `run_id`."""
    recreated: bool = False
    """Whether the row belongs to a deleted run with the same id."""
    initial_weights_path: str | None = None
    """File in S3 from which training starts; None if it starts from scratch."""
    initial_weights_sha256: str | None = None
    """SHA-256 of the file in initial_weights_path."""
    queued_at: datetime | None = None
    """When the job was queued; None means now."""
    dataset: DatasetVersionName | None = None
    """Version of the registered dataset in the spec."""
    gpu_limit: int | None = None
    """Number of GPUs that the jobs of `triggered_by` may have at the same time; None for any number."""
    run_started_at: datetime | None = None
    """When the run started or, if later, was last cleared."""
