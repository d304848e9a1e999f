"""The task `evaluate`: evaluates challenger and champion in turn, on the same machine and data."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from include.attempt.elsewhere import retry_elsewhere
from include.checkpoints.checkpoint import hash_file
from include.checkpoints.store import CheckpointStore
from include.datasets.caching.fetch import materialize
from include.datasets.caching.listing import S3Listings
from include.datasets.reference import DatasetReference
from include.datasets.s3 import S3ObjectReader
from include.deployment.connections import open_bucket, open_training_db
from include.deployment.model_keys import load_verification
from include.deployment.retrying import treat_refusals_as_temporary
from include.deployment.settings import Settings
from include.jobs.job import TRAINING_DAG
from include.jobs.repository import JobRepository
from include.models.repository import ModelRepository
from include.orchestration.failures import no_retry
from include.s3.errors import CorruptObject
from include.tasks.retrain_payloads import Evaluations
from include.training.evaluate import evaluate
from include.training.gpu_claims import claim_gpus
from include.trusted_folders import make_trusted_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Context

    from include.datasets.rules import Split
    from include.models.version import ModelVersion
    from include.retraining.plans import RetrainPlan
    from include.s3.bucket import Bucket
    from include.tasks.retrain_payloads import Challenge, Challenger, Retraining
    from include.training.evaluate import Evaluation


_FOLDER = ".evaluation-"

_LEFTOVER_SECONDS = 24 * 3600.0
"""Age at which an evaluation's folder is assumed to have been left behind by a killed task."""


def evaluate_models(
    retraining: Retraining, challenge: Challenge, challenger: Challenger, context: Context
) -> Evaluations:
    """Evaluate challenger and champion on this machine, on the data that the challenger was trained on."""
    plan, dataset = retraining.plan, _load_dataset(challenge, context)
    with retry_elsewhere(lambda: True):
        settings = Settings.from_environment()
        bucket = open_bucket(settings)
    champion = _find_champion(plan.name, bucket, settings)
    if champion is not None and champion.job_id == challenger.job_id:
        raise AirflowSkipException(f"Job {challenger.job_id} is already in production: {champion}.")
    with (
        no_retry(),
        treat_refusals_as_temporary(),
        retry_elsewhere(lambda: True),
        materialize(
            dataset,
            settings.dataset_cache,
            S3ObjectReader(bucket.client),
            settings.dataset_roots,
            S3Listings(bucket),
            settings.dataset_cache_limit,
        ) as local,
        tempfile.TemporaryDirectory(
            prefix=_FOLDER, dir=_remove_leftovers(make_trusted_folder(settings.training_root))
        ) as folder,
        claim_gpus(_choose_first_device(plan), settings.gpu_locks) as device,
    ):
        measure = _prepare_evaluation(
            plan, local.data, dataset.split, CheckpointStore(bucket), Path(folder), device
        )
        challenger_result = measure(challenger.path, challenger.sha256)
        champion_result = measure(champion.path, champion.sha256) if champion else None
    return Evaluations(
        dataset=dataset.parameter,
        dataset_fingerprint=dataset.fingerprint,
        challenger=challenger_result,
        champion_version=champion.version if champion else None,
        champion=champion_result,
    )


def _remove_leftovers(root: Path) -> Path:
    """Remove the folders that killed evaluations left in `root`, and return `root`."""
    for folder in root.glob(f"{_FOLDER}*"):
        with suppress(FileNotFoundError):
            if time.time() - folder.stat().st_mtime > _LEFTOVER_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
    return root


def _find_champion(name: str, bucket: Bucket, settings: Settings) -> ModelVersion | None:
    """Return the version in production, once its signature has been verified; None if there is none."""
    with open_training_db() as connection, no_retry(), treat_refusals_as_temporary():
        champion = ModelRepository(connection).find_production(name)
        if champion is not None:
            load_verification(settings).require_genuine(bucket.client, champion)
        return champion


def _load_dataset(challenge: Challenge, context: Context) -> DatasetReference:
    """Return the dataset as the run that trained the job found it: the data may have changed since then."""
    with open_training_db() as connection:
        job = JobRepository(connection).get(challenge.job_id)
    # After the challenge's own run failed, another may have continued the job, and checked the data again.
    run_id = job.run_id if job and job.run_id and job.dag_id == TRAINING_DAG else challenge.run_id
    found = context["ti"].xcom_pull(dag_id=TRAINING_DAG, run_id=run_id, task_ids="check_dataset")
    if found is None:
        raise AirflowFailException(
            f"The dataset of job {challenge.job_id} is not known: run {run_id} of {TRAINING_DAG} "
            "was deleted, or its task check_dataset was marked as success by hand; trigger the retraining "
            "again"
        )
    return DatasetReference.model_validate(found)


def _choose_first_device(plan: RetrainPlan) -> str | None:
    """Return the first of the plan's devices."""
    device = plan.build_spec().device
    return device.partition(",")[0] if device else None


def _prepare_evaluation(
    plan: RetrainPlan, data: Path, split: Split, store: CheckpointStore, folder: Path, device: str | None
) -> Callable[[str, str], Evaluation]:
    """Return a function that evaluates a model; both models are evaluated with the same settings."""
    spec = plan.build_spec()
    batch = int(spec.batch) if spec.batch is not None and spec.batch >= 1 else None

    def measure(uri: str, sha256: str) -> Evaluation:
        weights = folder / f"{sha256}.pt"
        store.fetch_object(uri, weights)
        found = hash_file(weights)
        if found != sha256:
            raise CorruptObject(
                f"{uri} has SHA-256 {found}, but {sha256} was recorded: the file has been "
                "replaced since then; restore it, or promote another version"
            )
        return evaluate(
            weights,
            data,
            plan.task,
            split,
            imgsz=spec.imgsz,
            batch=batch,
            device=device,
            arguments=spec.build_arguments(),
        )

    return measure
