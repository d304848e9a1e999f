"""The work of `train_yolo`: each function opens connections, does its part, and closes them."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException

from include.attempt.elsewhere import retry_elsewhere
from include.attempt.leftovers import remove_leftovers
from include.attempt.tracking import track_recorded
from include.attempt.uploads import upload
from include.audit.stuck import find_stuck
from include.checkpoints.checkpoint import CHECKPOINT_KINDS
from include.checkpoints.store import CheckpointStore
from include.claim.checked_dataset import CheckedDatasets, attach_report, store_report
from include.claim.claimant import Claimant, RunIdentity
from include.claim.dataset_check import check_parameter
from include.claim.free_job import has_own_state
from include.claim.preparation import show_preparation
from include.claim.quota import QuotaCheck, QuotaWait
from include.claim.resolve import reason_in_waiting_row, resolve
from include.claim.same_classes import require_same_classes
from include.datasets.errors import DatasetError
from include.datasets.rules import check_rules
from include.deployment.backend import notify, require_backend
from include.deployment.connections import open_bucket, open_training_db, prepare_training_db
from include.deployment.retrying import retry_while_unavailable, treat_refusals_as_temporary
from include.deployment.settings import Settings
from include.jobs.callback import TrainingCompletionCallback
from include.jobs.repository import JobRepository
from include.jobs.usage import UsageRepository
from include.orchestration.failures import no_retry, record_final_failure
from include.orchestration.interruptions import mark_explained, start_attempt
from include.orchestration.runs import build_live_runs, find_creation, is_running
from include.s3.conditional_writes import require_conditional_writes, require_verified_writes

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.attempt.manifest import TrainingManifest
    from include.checkpoints.checkpoint import Checkpoint, CheckpointKind
    from include.claim.resolved_job import ResolvedJob
    from include.datasets.reference import DatasetReference
    from include.jobs.quota import Quotas

log = logging.getLogger(__name__)


def record_unrecorded_failures(context: Context) -> None:
    """Record failures of earlier runs that could not be recorded because the database was down.

    Errors are only logged, because they must not fail this run.
    """
    recorded: list[str] = []
    try:
        with open_training_db() as connection:
            for found in find_stuck(connection, build_live_runs(context), datetime.now(UTC), repair=True):
                log.warning("%s: %s.", found.detail, found.repair or "nothing to record")
                if found.job_id and found.repair:
                    recorded.append(found.job_id)
        for job_id in recorded:
            track_recorded(job_id, prepare_training_db())
    except Exception:
        log.warning("Could not search for runs with an unrecorded failure.", exc_info=True)


def resolve_config(context: Context) -> ResolvedJob:
    """Turn the run's conf into a job that this run owns.

    While the job waits for its user's quota, raises AirflowRescheduleException, which frees the worker.
    """
    try:
        job = _claim(context)
    except QuotaWait as wait:
        log.info("%s. Trying again in %s.", wait, wait.pause)
        record_unrecorded_failures(context)  # jobs of dead runs must not use the quota for ever
        mark_explained(context)  # kills before and after this wait do not count as consecutive
        again_at = datetime.now(UTC) + wait.pause
        raise AirflowRescheduleException(again_at) from None  # type: ignore[no-untyped-call]
    log.info("Job %s: %s", job.job_id, job.spec.model_dump_json(exclude_none=True))
    track_recorded(job.job_id, prepare_training_db())
    return job


def _claim(context: Context) -> ResolvedJob:
    dag_run = context["dag_run"]
    run = RunIdentity(
        dag_run.dag_id,
        dag_run.run_id,
        dag_run.run_after,
        dag_run.triggering_user_name,
        find_creation(context["ti"].id, dag_run.start_date),
        dag_run.start_date,
    )
    # Read the conf, not `params`: only the conf contains unknown keys, which must be refused.
    conf = dag_run.conf or {}
    with (
        open_training_db() as connection,
        no_retry(),
        treat_refusals_as_temporary(lambda: has_own_state(conf, run, JobRepository(connection))),
    ):
        with retry_elsewhere(lambda: has_own_state(conf, run, JobRepository(connection))):
            settings = Settings.from_environment()
            bucket = open_bucket(settings)
        with reason_in_waiting_row(conf.get("job_id"), run, JobRepository(connection), settings.ownership):
            require_conditional_writes(bucket)
            require_verified_writes(bucket)
        return resolve(conf, Claimant.of(run, connection, bucket, settings, is_running))


def check_job_dataset(job: ResolvedJob, context: Context) -> DatasetReference:
    """Find and check the job's dataset; a resumed training run keeps the dataset that it started with."""
    resumes = _has_own_state(job)
    with record_final_failure(context), treat_refusals_as_temporary(lambda: resumes):
        with retry_elsewhere(lambda: resumes):
            settings = Settings.from_environment()
            bucket = open_bucket(settings)
        checked = CheckedDatasets(bucket)
        if resumes and (reference := checked.load(job)) is not None:
            log.info(
                "Job %s continues with the dataset that it started with: %s, fingerprint %s",
                job.job_id,
                reference.source,
                reference.fingerprint,
            )
            _record_dataset(job, reference)
            return reference
        try:
            rules = check_rules(job.spec.build_arguments())
            with show_preparation(job, prepare_training_db()):
                found = check_parameter(job.spec.dataset, job.spec.task, settings, bucket, rules)
        except DatasetError as error:
            raise attach_report(error, job, settings) from error
        reference = found.reference
        require_same_classes(job, reference, CheckpointStore(bucket))
        store_report(found, job, settings)
        checked.save(job, reference)
        _record_dataset(job, reference)
        return reference


def _has_own_state(job: ResolvedJob) -> bool:
    with open_training_db() as connection:
        return JobRepository(connection).has_own_state(job.job_id)


def _record_dataset(job: ResolvedJob, dataset: DatasetReference) -> None:
    with open_training_db() as connection:
        JobRepository(connection).record_dataset(
            job.job_id, job.run_id, dataset.fingerprint, dataset.class_table
        )


def train_job(job: ResolvedJob, dataset: DatasetReference, context: Context) -> TrainingManifest:
    """Train on this machine, continuing where the previous attempt ended."""
    from include.attempt.attempt import TrainingAttempt

    _require_this_run(job, context)
    if dataset.parameter != job.spec.dataset:
        raise AirflowFailException(
            f"The XCom of check_dataset is for {dataset.parameter!r}, but the job's dataset is "
            f"{job.spec.dataset!r}: the XCom was edited. Clear check_dataset with its downstream tasks."
        )
    resumes = partial(retry_while_unavailable, partial(_has_own_state, job))
    with record_final_failure(context), retry_elsewhere(resumes):
        settings = Settings.from_environment()
    attempt = TrainingAttempt(
        job,
        dataset,
        context["ti"].try_number,
        settings,
        lambda: CheckpointStore(open_bucket(settings), run_id=job.origin_run_id),
    )
    with record_final_failure(context), retry_elsewhere(attempt.is_resumable):
        retry_while_unavailable(lambda: require_hours_to_begin(job.job_id, settings.quotas))
        start_attempt(context, retry_while_unavailable(attempt.read_durable_progress), attempt.read_trace())
        manifest = attempt.run()
    remove_leftovers(settings)
    return manifest


def require_hours_to_begin(job_id: str, quotas: Quotas) -> None:
    """Refuse a job that has not begun if its user's GPU hours were used up while it waited for its GPU."""
    with open_training_db() as connection:
        row = JobRepository(connection).get(job_id)
        if row is not None and row.started_at is None:
            check = QuotaCheck(quotas, UsageRepository(connection), datetime.now(UTC))
            check.of(row.triggered_by).require_hours()


def upload_checkpoint(manifest: TrainingManifest, kind: CheckpointKind, context: Context) -> Checkpoint:
    """Upload one checkpoint; return it with its s3:// path."""
    _require_this_run(manifest, context)
    with record_final_failure(context):
        with open_training_db() as connection:
            # If an old run's upload task is cleared, it must not touch checkpoints that another run owns now.
            JobRepository(connection).require_owner(manifest.job_id, manifest.run_id)
        with retry_elsewhere(lambda: True):
            settings = Settings.from_environment()
            store = CheckpointStore(open_bucket(settings), run_id=manifest.origin_run_id)
        return upload(manifest, kind, store, settings)


def notify_backend(job: ResolvedJob, context: Context) -> int:
    """Send the job's row to MLflow and to the host application's backend; return the HTTP status."""
    _require_this_run(job, context)
    open_database = prepare_training_db()
    with open_database() as connection:
        recorded = JobRepository(connection).get(job.job_id)
    if recorded is None:
        raise AirflowFailException(
            f"Job {job.job_id} no longer has a row in training_jobs: it was deleted, so the backend "
            "is not notified. Its checkpoints are in S3"
        )
    track_recorded(job.job_id, open_database)
    require_backend()
    if missing := [f"{kind}.pt" for kind in CHECKPOINT_KINDS if recorded.get_checkpoint(kind) is None]:
        raise AirflowFailException(
            f"Job {job.job_id} is {recorded.status}, and its row names no {' and no '.join(missing)}: the "
            "retention policy deleted it, or another run started the job again. So there is nothing to tell "
            "the backend"
        )
    return notify(TrainingCompletionCallback.model_validate(recorded, from_attributes=True))


def _require_this_run(payload: ResolvedJob | TrainingManifest, context: Context) -> None:
    """Fail if an XCom names another run: users may edit XComs, but must not gain access to others' jobs.

    Airflow itself records which run a task belongs to; the run id in an XCom is only a claim.
    """
    if payload.run_id != context["run_id"]:
        raise AirflowFailException(
            f"An XCom of this run says run_id={payload.run_id!r}, but the run is {context['run_id']!r}: "
            "the XCom was edited. Clear resolve_config with its downstream tasks."
        )
