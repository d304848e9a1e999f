"""A training job in the API's responses: its row, and values derived from the row and other tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import Field

from include.api.addresses import build_airflow_url, build_api_url
from include.api.bodies import ResponseBody
from include.jobs.job import JobStatus, TrainingJob
from include.jobs.listing import CHILDREN_SHOWN, CURVE_POINTS, JobListing, read_text_parameter
from include.jobs.queue import QueuePlace, find_places
from include.plain_text import escape_all_controls
from include.s3.layout import build_checkpoint_key, build_dataset_report_key
from include.s3.location import S3Location

if TYPE_CHECKING:
    from psycopg import Connection

    from include.checkpoints.checkpoint import CheckpointKind
    from include.jobs.listing import JobDetails

_IDS = ("job_id", "parent_job_id", "dag_id", "run_id", "origin_run_id")


class Progress(ResponseBody):
    """Progress of a job.

    Epochs are counted, not numbered: after epochs 0, 1 and 2, `finished_epochs` is 3.
    """

    finished_epochs: int | None
    """Number of finished epochs, including those of the job that this job continues. If none is recorded: 0
    for an active job, null for any other."""
    epochs: int | None
    """Planned number of epochs."""
    batch: int | None
    """Number of batches that have been trained since the last finished epoch."""
    batches: int | None
    """Number of batches in an epoch."""
    durable_epochs: int | None
    """Number of epochs that survive the loss of the machine."""
    durable_batch: int | None
    """Number of batches after those epochs that also survive the loss of the machine."""
    goodput: float | None
    """Share of `duration_seconds` spent training, not counting training that was later repeated; null if
    unknown."""
    eta_seconds: float | None
    """Expected time from `recorded_at` to the end of the job, including an interruption that has ended; null
    unless the job is running and has finished an epoch itself."""
    epoch_seconds: float | None
    """Duration of the last epoch."""
    recorded_at: datetime | None
    """When the last epoch was recorded."""


class JobLineage(ResponseBody):
    """The job's parent, and its newest children."""

    parent_job_id: str | None
    """The job that this job continues, or whose best.pt it started from."""
    resumed_epoch: int | None
    """The parent's epoch, counted from 0, after which the job continues; null for a job that started from
    best.pt."""
    children: list[str] = Field(max_length=CHILDREN_SHOWN)
    """The newest jobs that continue this job or started from its best.pt."""


class JobLinks(ResponseBody):
    """Absolute URLs; null for a checkpoint, dataset report or Airflow run that the job does not have."""

    self: str
    """The job in this API."""
    epochs: str
    """The finished epochs."""
    events: str
    """The live events."""
    lineage: str
    """The job's ancestors and descendants."""
    pictures: str
    """The list of pictures."""
    dataset_report: str | None
    """The report of the dataset check; null if no check has stored one."""
    best_checkpoint: str | None
    """Download of best.pt; null if none is known to be in S3."""
    last_checkpoint: str | None
    """Download of last.pt; null if none is known to be in S3, or if retention deleted it."""
    airflow_run: str | None
    """Page of the run that owns the job, in Airflow's UI; null if no run owns the job."""
    airflow_run_api: str | None
    """The same run in Airflow's own REST API."""


class TrainingJobResponse(TrainingJob):
    """A training job: every field of its row, and derived values.

    Epoch numbers in the row are counted from 0.
    """

    task: str | None
    """`task` of `spec`: a Task, or any text that a host application wrote."""
    model: str | None
    """`model` of `spec`."""
    dataset: str | None
    """`dataset` of `spec`."""
    duration_seconds: float | None
    """Time for which the job's attempts have held their GPUs. Waits, the time between two attempts, and the
    time between a job's end and its resumption are not included. For a job that began before schema revision
    0013, or that a host application trains: the time from `started_at` to the job's end, or until now."""
    queue: QueuePlace | None
    """Null unless the job waits for a GPU."""
    progress: Progress
    """How far training has come."""
    fitness_curve: list[float | None] = Field(max_length=CURVE_POINTS)
    """Fitness of at most 32 epochs, evenly spaced over all finished epochs, the oldest first."""
    lineage: JobLineage
    """The job's parent and newest children."""
    links: JobLinks
    """URLs of the job's resources."""


def build_response(job: TrainingJob, database: Connection[Any], bucket: str) -> TrainingJobResponse:
    """Return the job's response, reading from the database the values that its row lacks.

    `bucket` is the name of the deployment's bucket: links lead only to files in that bucket.
    """
    return build_responses([job], database, bucket)[0]


def build_responses(
    jobs: Sequence[TrainingJob], database: Connection[Any], bucket: str
) -> list[TrainingJobResponse]:
    """Return the responses of all these jobs, with as many queries as for a single job."""
    details = JobListing(database).find_details([job.job_id for job in jobs])
    now = datetime.now(UTC)
    waiting = any(job.waits_for_gpu for job in jobs)
    places = find_places(database, now) if waiting else {}
    return [_build(job, details[job.job_id], places.get(job.job_id), bucket, now) for job in jobs]


def _build(
    job: TrainingJob, details: JobDetails, place: QueuePlace | None, bucket: str, now: datetime
) -> TrainingJobResponse:
    row = escape_row(job.model_dump())
    duration = _compute_duration(job, details, now)
    return TrainingJobResponse(
        **row,
        task=read_text_parameter(row["spec"], "task"),
        model=read_text_parameter(row["spec"], "model"),
        dataset=read_text_parameter(row["spec"], "dataset"),
        duration_seconds=duration,
        queue=place,
        progress=_build_progress(job, details, duration),
        fitness_curve=list(details.curve),
        lineage=JobLineage(
            parent_job_id=job.parent_job_id,
            resumed_epoch=job.resumed_epoch,
            children=list(details.children),
        ),
        links=_build_links(job, bucket),
    )


def escape_row(row: dict[str, Any]) -> dict[str, Any]:
    """Escape control characters, which could manipulate a terminal or page, in the values of the row.

    Ids are not escaped, because clients use them to request the job.
    """
    escaped: dict[str, Any] = escape_all_controls(row)
    return escaped | {name: row[name] for name in _IDS if name in row}


def _compute_duration(job: TrainingJob, details: JobDetails, now: datetime) -> float | None:
    if details.gpu_seconds is not None:
        return details.gpu_seconds
    if job.started_at is None:
        return None
    ended = now if job.status == JobStatus.RUNNING else job.completed_at or job.updated_at
    return max(0.0, (ended - job.started_at).total_seconds()) if ended else None


def _build_progress(job: TrainingJob, details: JobDetails, duration: float | None) -> Progress:
    return Progress(
        finished_epochs=_count_finished(job, job.resumed_epoch if job.epoch is None else job.epoch),
        epochs=job.epochs,
        batch=job.epoch_batch,
        batches=job.epoch_batches,
        durable_epochs=_count_finished(job, job.durable_epoch),
        durable_batch=job.durable_batch,
        goodput=min(job.trained_seconds / duration, 1.0) if job.trained_seconds and duration else None,
        eta_seconds=details.eta_seconds if job.status == JobStatus.RUNNING else None,
        epoch_seconds=details.seconds,
        recorded_at=details.recorded_at,
    )


def _count_finished(job: TrainingJob, last_epoch: int | None) -> int | None:
    """Return the number of finished epochs.

    If `last_epoch` is None, return 0 for an active job, and None for all other jobs.
    """
    if last_epoch is not None:
        return last_epoch + 1
    return 0 if job.is_active else None


def _build_links(job: TrainingJob, bucket: str) -> JobLinks:
    route = ("jobs", job.job_id)
    run = (job.dag_id, job.run_id) if job.dag_id and job.run_id else None
    return JobLinks(
        self=build_api_url(*route),
        epochs=build_api_url(*route, "epochs"),
        events=build_api_url(*route, "events"),
        lineage=build_api_url(*route, "lineage"),
        pictures=build_api_url(*route, "pictures"),
        dataset_report=build_api_url(*route, "dataset-report") if has_report(job, bucket) else None,
        best_checkpoint=_download_url(job, bucket, "best"),
        last_checkpoint=None if job.last_checkpoint_expired_at else _download_url(job, bucket, "last"),
        airflow_run=run and build_airflow_url("dags", run[0], "runs", run[1]),
        airflow_run_api=run and build_airflow_url("api", "v2", "dags", run[0], "dagRuns", run[1]),
    )


def has_report(job: TrainingJob, bucket: str) -> bool:
    """Return whether the job has a dataset report.

    The job has one if its dataset passed the check, or if its error contains the report's URI.
    """
    if job.dataset_fingerprint is not None:
        return True
    return job.error is not None and S3Location(bucket, build_dataset_report_key(job.job_id)).uri in job.error


def _download_url(job: TrainingJob, bucket: str, kind: CheckpointKind) -> str | None:
    """Return the checkpoint's download URL, or None if the row does not show that the checkpoint is stored.

    A recorded path shows this if it is the job's own key. If the row records no path, a durable epoch shows
    that last.pt is stored. best.pt is stored after the first epoch (0) or, without validation, when training
    has ended.
    """
    uri = S3Location(bucket, build_checkpoint_key(job.job_id, kind)).uri
    recorded = job.get_checkpoint(kind)
    if recorded is not None:
        is_stored = recorded.path == uri
    else:
        is_stored = job.durable_epoch is not None and (
            kind == "last" or (job.durable_epoch >= 0 and _validates(job))
        )
    return build_api_url("jobs", job.job_id, "checkpoints", kind) if is_stored else None


def _validates(job: TrainingJob) -> bool:
    """Return whether each epoch is validated; only then is the best epoch so far known."""
    overrides = (job.spec or {}).get("overrides")
    return not isinstance(overrides, dict) or overrides.get("val") is not False
