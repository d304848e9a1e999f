"""Train a YOLO model and keep both of its checkpoints.

Enter a dataset and press *Trigger*; all other fields are optional. One task trains on a GPU (pool and queue
`gpu`), two tasks upload the checkpoints in parallel, and one SQL statement records both checkpoints once they
are verified:

| file | purpose | where |
|---|---|---|
| `best.pt` | deployment: best weights, no optimizer | `s3://{bucket}/checkpoints/{job_id}/best.pt` |
| `last.pt` | resuming: complete training state | `s3://{bucket}/checkpoints/{job_id}/last.pt` |

To train a finished job for longer, trigger this Dag again with `resume_from` (that job's ID) and more
`epochs`. The job's row in `training_jobs` contains the paths of both files, or the reason why there are none.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag, get_current_context, task

from include.attempt.manifest import TrainingManifest
from include.checkpoints.checkpoint import Checkpoint
from include.claim.resolved_job import ResolvedJob
from include.datasets.reference import DatasetReference
from include.deployment.settings import GPU_POOL, GPU_QUEUE, MAX_ACTIVE_RUNS
from include.jobs.spec import TrainingSpec
from include.orchestration.failures import (
    record_run_failure,
    record_task_failure,
    record_unfinished_run,
    require_one_row,
)
from include.orchestration.params import dag_params
from include.orchestration.retries import DEFAULT_ARGS, ErrorCountPolicy
from include.orchestration.training_sql import TrainingSqlOperator
from include.orchestration.typed_task import manifest_of, result_of, run_in_order, typed_task
from include.queries import QUERIES

PREEMPTIONS = 1000
"""Maximum number of interruptions of a training run. After three kills, or 51 interruptions of any kind,
without durable progress, interruptions.py ends the run sooner. It cannot count processes that die before they
reach it."""


@dag(
    schedule=None,
    params=dag_params(TrainingSpec),
    doc_md=__doc__,
    tags=["training"],
    default_args=DEFAULT_ARGS | {"on_failure_callback": record_task_failure},
    user_defined_macros={"manifest_of": manifest_of, "result_of": result_of},
    max_active_runs=MAX_ACTIVE_RUNS,
    is_paused_upon_creation=False,
    template_searchpath=[str(QUERIES)],
    on_failure_callback=record_run_failure,
    on_success_callback=record_unfinished_run,
)
def train_yolo() -> None:
    @task
    def check_schema() -> None:
        """Fail early unless the tables are at this code's schema revision; this Dag never migrates them."""
        from include.orchestration.current_schema import require_current_schema
        from include.tasks.train_yolo import record_unrecorded_failures

        require_current_schema()
        record_unrecorded_failures(get_current_context())

    @typed_task()
    def resolve_config() -> ResolvedJob:
        """Validate every parameter and claim the job before a GPU is used."""
        from include.tasks.train_yolo import resolve_config

        return resolve_config(get_current_context())

    @typed_task()
    def check_dataset(job: ResolvedJob) -> DatasetReference:
        """Find the dataset, check it file by file, and return a reference to it."""
        from include.tasks.train_yolo import check_job_dataset

        return check_job_dataset(job, get_current_context())

    @typed_task(
        pool=GPU_POOL,
        queue=GPU_QUEUE,
        retries=PREEMPTIONS,
        retry_delay=timedelta(seconds=1),  # after a SIGKILL; three SIGKILLs without progress end the run
        retry_exponential_backoff=0,
        retry_policy=ErrorCountPolicy(),
        pre_execute=None,  # the task's body counts kills: only it can read the durable progress
    )
    def train(job: ResolvedJob, dataset: DatasetReference) -> TrainingManifest:
        """Train from the newest state, and upload new states in the background."""
        from include.tasks.train_yolo import train_job

        return train_job(job, dataset, get_current_context())

    @typed_task()
    def upload_best(manifest: TrainingManifest) -> Checkpoint:
        """Upload the deployable model to S3 and verify it."""
        from include.tasks.train_yolo import upload_checkpoint

        return upload_checkpoint(manifest, "best", get_current_context())

    @typed_task()
    def upload_last(manifest: TrainingManifest) -> Checkpoint:
        """Upload the complete training state to S3 and verify it."""
        from include.tasks.train_yolo import upload_checkpoint

        return upload_checkpoint(manifest, "last", get_current_context())

    record_checkpoints = TrainingSqlOperator(
        task_id="record_checkpoints",
        sql="record_checkpoints.sql",
        execution_timeout=timedelta(minutes=2),  # so that the task is retried if the server hangs
        parameters={
            "job_id": "{{ result_of(ti, 'resolve_config').job_id }}",
            "run_id": "{{ run_id }}",
            "status": "{{ manifest_of(ti).status }}",
            "epoch": "{{ manifest_of(ti).epoch }}",
            "batch": "{{ manifest_of(ti).last.batch }}",
            "epochs": "{{ manifest_of(ti).epochs }}",
            "metrics": "{{ manifest_of(ti).metrics | tojson }}",
            "best_checkpoint_path": "{{ result_of(ti, 'upload_best').path }}",
            "best_checkpoint_sha256": "{{ result_of(ti, 'upload_best').sha256 }}",
            "best_checkpoint_size": "{{ result_of(ti, 'upload_best').size }}",
            "last_checkpoint_path": "{{ result_of(ti, 'upload_last').path }}",
            "last_checkpoint_sha256": "{{ result_of(ti, 'upload_last').sha256 }}",
            "last_checkpoint_size": "{{ result_of(ti, 'upload_last').size }}",
        },
        handler=require_one_row,
        doc_md="Write both paths, hashes and sizes to the job's row in one statement.",
    )

    @typed_task()
    def notify_backend(job: ResolvedJob) -> int:
        """Send the recorded result to MLflow and the host application's backend, if they are configured."""
        from include.tasks.train_yolo import notify_backend

        return notify_backend(job, get_current_context())

    job = resolve_config()
    manifest = train(job, check_dataset(job))
    uploads = [upload_best(manifest), upload_last(manifest)]

    run_in_order(check_schema(), job)
    run_in_order(uploads, record_checkpoints, notify_backend(job))


train_yolo()
