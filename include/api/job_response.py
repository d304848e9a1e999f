"""A training job as every route of the API shows it: its row, and what else is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from include.api.addresses import at_airflow, at_api
from include.deployment.settings import Settings
from include.jobs.job import JobStatus, TrainingJob
from include.jobs.listing import CHILDREN_SHOWN, CURVE_POINTS, JobDetails, JobListing, named
from include.jobs.queue import find_places
from include.plain_text import escape_all_controls
from include.s3.layout import checkpoint_key, dataset_report_key
from include.s3.location import S3Location

if TYPE_CHECKING:
    from psycopg import Connection

    from include.checkpoints.checkpoint import CheckpointKind
    from include.jobs.queue import QueuePlace


_IDS = ("job_id", "parent_job_id", "dag_id", "run_id", "origin_run_id")


class Progress(BaseModel):
    """How far a job is. Epochs are counted here: three finished ones are 3, and the last of them is epoch 2.

    batch is how many batches of the next epoch are trained, of `batches`. durable_epochs, and durable_batch
    after them, are what a lost machine cannot take away any more. epoch_seconds is what the last epoch took,
    eta_seconds what the rest will take as of recorded_at; null unless the job runs. goodput is the share of
    the time since the start that went into training that counts; null where that is not known.
    """

    finished_epochs: int | None
    epochs: int | None
    batch: int | None
    batches: int | None
    durable_epochs: int | None
    durable_batch: int | None
    goodput: float | None
    eta_seconds: float | None
    epoch_seconds: float | None
    recorded_at: datetime | None


class JobQueue(BaseModel):
    """Where the job is among those that wait for a GPU: first come, first served.

    place counts from 1, which starts next, to `waiting`. expected_start_at is estimated from the trainings
    that go on and from how long similar ones took; null where there is nothing to go by.
    """

    place: int
    waiting: int
    expected_start_at: datetime | None


class JobLineage(BaseModel):
    """What the job goes on from, after which epoch (from 0), and the newest jobs that go on from it."""

    parent_job_id: str | None
    resumed_epoch: int | None
    children: list[str] = Field(max_length=CHILDREN_SHOWN)


class JobLinks(BaseModel):
    """Absolute addresses. Those of the checkpoints and the report are null where there is none."""

    self: str
    epochs: str
    events: str
    lineage: str
    pictures: str
    dataset_report: str | None
    best_checkpoint: str | None
    last_checkpoint: str | None
    airflow_run: str | None
    airflow_run_api: str | None


class TrainingJobResponse(TrainingJob):
    """A training job: every field of its row, and what follows from it.

    Epochs of the row are counted from 0. task, model and dataset are those of spec. duration_seconds is from
    the start of the training to its end, or until now: the wait for a GPU is not in it. queue is null
    unless the job waits for a GPU. fitness_curve holds the fitness of at most 32 epochs, evenly spaced over
    all that are finished, the oldest first.
    """

    task: str | None
    model: str | None
    dataset: str | None
    duration_seconds: float | None
    queue: JobQueue | None
    progress: Progress
    fitness_curve: list[float | None] = Field(max_length=CURVE_POINTS)
    lineage: JobLineage
    links: JobLinks


def response_of(job: TrainingJob, database: Connection[Any]) -> TrainingJobResponse:
    """Return the job as the API shows it; read what is not in its row."""
    return responses_of([job], database)[0]


def responses_of(jobs: Sequence[TrainingJob], database: Connection[Any]) -> list[TrainingJobResponse]:
    """All of these jobs, with one look at the database."""
    details = JobListing(database).details([job.job_id for job in jobs])
    now = datetime.now(UTC)
    waiting = any(job.waits_for_gpu for job in jobs)
    places = find_places(database, now) if waiting else {}
    bucket = Settings.from_environment().bucket
    return [
        _response(job, details.get(job.job_id, JobDetails()), places.get(job.job_id), bucket, now)
        for job in jobs
    ]


def _response(
    job: TrainingJob, details: JobDetails, place: QueuePlace | None, bucket: str, now: datetime
) -> TrainingJobResponse:
    row = escape_row(job.model_dump())
    return TrainingJobResponse(
        **row,
        task=named(row["spec"], "task"),
        model=named(row["spec"], "model"),
        dataset=named(row["spec"], "dataset"),
        duration_seconds=_duration(job, now),
        queue=None if place is None else JobQueue(**asdict(place)),
        progress=_progress(job, details, _duration(job, now)),
        fitness_curve=list(details.curve),
        lineage=JobLineage(
            parent_job_id=job.parent_job_id,
            resumed_epoch=job.resumed_epoch,
            children=list(details.children),
        ),
        links=_links(job, bucket),
    )


def escape_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row without characters that do something to the screen of whoever reads it.

    Ids stay as they are: the job is asked for by them.
    """
    escaped: dict[str, Any] = escape_all_controls(row)
    return escaped | {name: row[name] for name in _IDS if name in row}


def _duration(job: TrainingJob, now: datetime) -> float | None:
    if job.started_at is None:
        return None
    ended = now if job.status == JobStatus.RUNNING else job.completed_at or job.updated_at
    return max(0.0, (ended - job.started_at).total_seconds()) if ended else None


def _progress(job: TrainingJob, details: JobDetails, duration: float | None) -> Progress:
    return Progress(
        finished_epochs=_finished(job, job.resumed_epoch if job.epoch is None else job.epoch),
        epochs=job.epochs,
        batch=job.epoch_batch,
        batches=job.epoch_batches,
        durable_epochs=_finished(job, job.durable_epoch),
        durable_batch=job.durable_batch,
        goodput=min(job.trained_seconds / duration, 1.0) if job.trained_seconds and duration else None,
        eta_seconds=details.eta_seconds if job.status == JobStatus.RUNNING else None,
        epoch_seconds=details.seconds,
        recorded_at=details.recorded_at,
    )


def _finished(job: TrainingJob, last_epoch: int | None) -> int | None:
    """How many epochs these are. Without a last one none, if the job waits or runs; else nobody knows."""
    if last_epoch is not None:
        return last_epoch + 1
    return 0 if job.is_active else None


def _links(job: TrainingJob, bucket: str) -> JobLinks:
    here = ("jobs", job.job_id)
    run = (job.dag_id, job.run_id)
    return JobLinks(
        self=at_api(*here),
        epochs=at_api(*here, "epochs"),
        events=at_api(*here, "events"),
        lineage=at_api(*here, "lineage"),
        pictures=at_api(*here, "pictures"),
        dataset_report=at_api(*here, "dataset-report") if has_report(job, bucket) else None,
        best_checkpoint=_download(job, bucket, "best"),
        last_checkpoint=None if job.last_checkpoint_expired_at else _download(job, bucket, "last"),
        airflow_run=at_airflow("dags", run[0], "runs", run[1]) if run[0] and run[1] else None,
        airflow_run_api=(
            at_airflow("api", "v2", "dags", run[0], "dagRuns", run[1]) if run[0] and run[1] else None
        ),
    )


def has_report(job: TrainingJob, bucket: str) -> bool:
    """Tell whether the row's error names the report of a dataset check, at its place in the bucket."""
    return job.error is not None and S3Location(bucket, dataset_report_key(job.job_id)).uri in job.error


def _download(job: TrainingJob, bucket: str, kind: CheckpointKind) -> str | None:
    """Return the route if the row says that a checkpoint is at its place.

    Either it is recorded, or a state is durable while the job trains.
    """
    place = S3Location(bucket, checkpoint_key(job.job_id, kind)).uri
    recorded = job.checkpoint(kind)
    there = recorded.path == place if recorded else job.durable_epoch is not None
    return at_api("jobs", job.job_id, "checkpoints", kind) if there else None
