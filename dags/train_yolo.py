"""Train a YOLO model and keep both of its checkpoints.

Give a data set and press *Trigger*; every other field may stay empty. One task trains on a GPU (pool and
queue `gpu`), two tasks upload in parallel, and one statement records what was verified:

| file | what it is for | where |
|---|---|---|
| `best.pt` | deploy it: the best weights, stripped | `s3://{bucket}/checkpoints/{job_id}/best.pt` |
| `last.pt` | continue from it: the whole training state | `s3://{bucket}/checkpoints/{job_id}/last.pt` |

To train a finished job for longer, trigger this Dag again with `resume_from` (that job's id) and more
`epochs`. The job's row in `training_jobs` names both files, or says why there are none.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.sdk import dag, get_current_context, task

from include.jobs.queries import QUERIES
from include.jobs.spec import TrainingSpec
from include.pipeline.failures import record_run_failure, record_task_failure, record_unfinished_run
from include.pipeline.form import params_of
from include.pipeline.record import exactly_one_row, result_of
from include.pipeline.retries import DEFAULT_ARGS, CountErrors
from include.pipeline.settings import DATABASE_LIMITS, GPU_POOL, GPU_QUEUE, MAX_ACTIVE_RUNS, TRAINING_DB

Json = dict[str, Any]

PREEMPTIONS = 50
"""How often a training may be killed or lose its machine; errors of its own are counted by CountErrors."""


@dag(
    schedule=None,
    params=params_of(TrainingSpec),
    doc_md=__doc__,
    tags=["training"],
    default_args=DEFAULT_ARGS | {"on_failure_callback": record_task_failure},
    user_defined_macros={"result_of": result_of},
    max_active_runs=MAX_ACTIVE_RUNS,
    is_paused_upon_creation=False,
    template_searchpath=[str(QUERIES)],
    on_failure_callback=record_run_failure,
    on_success_callback=record_unfinished_run,
)
def train_yolo() -> None:
    @task
    def check_schema() -> None:
        """Fail fast where the tables are behind the code. Training never migrates."""
        from include.pipeline.tasks import record_unrecorded_failures, require_current_schema

        require_current_schema()
        record_unrecorded_failures(get_current_context())

    @task
    def resolve_config() -> Json:
        """Check every parameter and take the job over, before a GPU is taken."""
        from include.pipeline.tasks import resolve_run

        return resolve_run(get_current_context()).model_dump(mode="json")

    @task
    def check_dataset(job: Json) -> Json:
        """Find the data, check it file by file, and hand on a reference to it."""
        from include.pipeline.tasks import check_job_dataset

        return check_job_dataset(job, get_current_context()).model_dump(mode="json")

    @task(
        pool=GPU_POOL,
        queue=GPU_QUEUE,
        retries=PREEMPTIONS,
        retry_delay=timedelta(seconds=3),
        retry_exponential_backoff=1.1,  # within seconds at first; 50 of them outlast half an hour
        max_retry_delay=timedelta(minutes=1),
        retry_policy=CountErrors(),
        pre_execute=None,  # its body counts kills, because it knows the durable progress
    )
    def train(job: Json, dataset: Json) -> Json:
        """Train, from the newest state there is; others become durable while it trains on."""
        from include.pipeline.tasks import train_resolved_job

        return train_resolved_job(job, dataset, get_current_context()).model_dump(mode="json")

    @task
    def upload_best(manifest: Json) -> Json:
        """Put the deployable model into S3 and verify it."""
        from include.pipeline.tasks import upload_checkpoint

        return upload_checkpoint(manifest, "best", get_current_context())

    @task
    def upload_last(manifest: Json) -> Json:
        """Put the whole training state into S3 and verify it."""
        from include.pipeline.tasks import upload_checkpoint

        return upload_checkpoint(manifest, "last", get_current_context())

    record_checkpoints = SQLExecuteQueryOperator(
        task_id="record_checkpoints",
        conn_id=TRAINING_DB,
        sql="record_checkpoints.sql",
        hook_params={"options": DATABASE_LIMITS},
        execution_timeout=timedelta(minutes=2),  # retried, too, if the server hangs
        parameters={
            "job_id": "{{ result_of(ti, 'resolve_config').job_id }}",
            "run_id": "{{ run_id }}",
            "status": "{{ 'stopped' if result_of(ti, 'train').stop_reason == 'stopped' else 'completed' }}",
            "epoch": "{{ result_of(ti, 'train').epoch }}",
            "batch": "{{ result_of(ti, 'train').last.batch | default(0) }}",  # earlier versions had none
            "epochs": "{{ result_of(ti, 'train').epochs }}",
            "metrics": "{{ result_of(ti, 'train').metrics | tojson }}",
            "best_checkpoint_path": "{{ result_of(ti, 'upload_best').path }}",
            "best_checkpoint_sha256": "{{ result_of(ti, 'upload_best').sha256 }}",
            "best_checkpoint_size": "{{ result_of(ti, 'upload_best').size }}",
            "last_checkpoint_path": "{{ result_of(ti, 'upload_last').path }}",
            "last_checkpoint_sha256": "{{ result_of(ti, 'upload_last').sha256 }}",
            "last_checkpoint_size": "{{ result_of(ti, 'upload_last').size }}",
        },
        handler=exactly_one_row,
        doc_md="Write both paths, hashes and sizes into the job's row, in one statement.",
    )

    @task
    def notify_backend(job: Json) -> int:
        """Tell the platform's backend what was recorded, where connection `training_backend` exists."""
        from include.pipeline.tasks import notify_completion

        return notify_completion(job, get_current_context())

    job = resolve_config()
    manifest = train(job, check_dataset(job))
    uploads = [upload_best(manifest), upload_last(manifest)]

    check_schema() >> job
    uploads >> record_checkpoints >> notify_backend(job)


train_yolo()
