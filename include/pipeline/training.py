"""The task `train`: brings data and state to this machine, runs the trainer, keeps the database informed."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from include.checkpoints.errors import FencedOut, StoreError
from include.checkpoints.publisher import BackgroundPublisher
from include.datasets.fetch import materialize
from include.datasets.s3 import S3ObjectReader
from include.jobs.repository import JobRepository
from include.pipeline.connections import s3_client, training_db
from include.pipeline.epochs import EpochEnd, EpochRecorder
from include.pipeline.payloads import TrainingManifest
from include.training.contract import TrainingRequest

if TYPE_CHECKING:
    from include.checkpoints.store import CheckpointStore
    from include.datasets.reference import DatasetReference
    from include.pipeline.payloads import ResolvedJob, ResumePoint
    from include.pipeline.settings import Settings

log = logging.getLogger(__name__)


def train_job(
    job: ResolvedJob, dataset: DatasetReference, settings: Settings, store: CheckpointStore
) -> TrainingManifest:
    """Train `job` on this machine and leave best.pt and last.pt below its run folder.

    What an earlier attempt left there is removed first: this attempt starts from the job's own beginning.
    """
    from airflow.sdk import get_current_context
    from ultralytics import __version__ as ultralytics_version

    from include.training.run import train

    attempt = get_current_context()["ti"].try_number
    _begin(job, attempt)
    for kind in ("best", "last"):
        # What is there now is what this attempt may replace; whatever comes later belongs to a newer one.
        store.head(job.job_id, kind)
    shutil.rmtree(settings.job_folder(job.job_id), ignore_errors=True)
    local = materialize(dataset, settings.dataset_cache, S3ObjectReader(s3_client()))
    request = _request(job, local.data, settings, store)
    recorder = EpochRecorder(job.job_id, job.run_id, attempt)
    with BackgroundPublisher(store, job.job_id, ultralytics_version) as publisher:
        epoch_end = EpochEnd(recorder, publisher, request.save_dir, job.spec.publish_every)
        result = train(request, epoch_end)
    recorder.flush()
    manifest = TrainingManifest.of(job, result)
    publish_final(manifest, store)
    return manifest


def _begin(job: ResolvedJob, attempt: int) -> None:
    """Put the row into the state of a training that begins, also where only this task was cleared."""
    first_epoch = job.resume.epoch + 1 if job.resume else 0
    with training_db() as connection:
        repeated = JobRepository(connection).start_training(job.job_id, job.run_id, attempt, first_epoch)
    if repeated:
        log.warning(
            "An earlier attempt had finished %d epochs; this one begins again at epoch %d.",
            repeated,
            first_epoch + 1,
        )


def publish_final(manifest: TrainingManifest, store: CheckpointStore) -> None:
    """Send both final files now, so that the upload tasks find them in S3 on whatever machine they run.

    A server that cannot be had costs no finished training: the upload tasks send the files from this machine
    then. Raises FencedOut where another attempt owns the job.
    """
    for checkpoint, kind in manifest.checkpoints():
        try:
            store.upload(checkpoint, manifest.job_id, kind, manifest.ultralytics_version)
        except FencedOut:
            raise
        except StoreError as error:
            log.warning("%s.pt is not in S3 yet: %s. It is left to upload_%s.", kind, error, kind)


def _request(job: ResolvedJob, data: Path, settings: Settings, store: CheckpointStore) -> TrainingRequest:
    spec = job.spec
    inputs = settings.job_folder(job.job_id) / "inputs"
    model = spec.model or ""
    last = best = None
    if job.resume is not None:
        last, best = _fetch_state(job.resume, inputs, store)
    elif model.startswith("s3://"):
        model = str(store.fetch_object(model, inputs / Path(model).name))
    return TrainingRequest(
        task=spec.task or "detect",
        model=model,
        data=data,
        save_dir=settings.run_folder(job.job_id),
        epochs=spec.epochs,
        device=spec.device,
        arguments=spec.arguments(),
        resume_from=last,
        best_from=best,
    )


def _fetch_state(resume: ResumePoint, folder: Path, store: CheckpointStore) -> tuple[Path, Path | None]:
    """Download the very objects that `resolve_config` saw; raises CorruptCheckpoint for any others."""
    log.info("Continuing job %s after its epoch %d.", resume.job_id, resume.epoch + 1)
    last = store.download(resume.job_id, "last", folder / "last.pt", expected=resume.last)
    if resume.best is None:
        return Path(last.path), None
    return Path(last.path), Path(
        store.download(resume.job_id, "best", folder / "best.pt", expected=resume.best).path
    )
