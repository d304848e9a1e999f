"""Trains from scratch, with a deliberate crash, or continues a job; then shows the job's row."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg

from include.console import PREFIX
from include.jobs.job import TRAINING_DAG
from include.jobs.repository import JobRepository
from include.jobs.spec import DIGITS_MODEL, SpecError, TrainingSpec
from include.s3.location import S3Location
from include.stack.errors import StackError, indent_last
from include.stack.follow import Follower, find_quality

if TYPE_CHECKING:
    from include.jobs.job import TrainingJob
    from include.jobs.recorded_checkpoint import RecordedCheckpoint
    from include.stack.local import Stack
    from include.stack.steps import Steps

TRAINING = {
    "dataset": "digits",
    "model": DIGITS_MODEL,
    "imgsz": 64,
    "epochs": 15,
    "batch": 16,
    "optimizer": "AdamW",
    "lr0": 0.003,
    "overrides": {"nbs": 16, "mosaic": 0.0, "fliplr": 0.0, "scale": 0.1, "translate": 0.05},
}
"""These parameters reach an mAP50 of 0.87 to 0.92 in a minute on two CPU cores.

That was measured with six seeds and variants of the scenes. With so few small images, the optimizer must step
after every batch. Digits must not be mirrored.
"""


def run_demo(stack: Stack, steps: Steps, training: Mapping[str, object] = TRAINING) -> None:
    """Start the stack, migrate the schema, train, and print the results. Raises StackError.

    Once half of the epochs are recorded, the training process is killed; Airflow retries the task, and
    training resumes.
    """
    stack.up(steps)
    _run(stack, steps, "migrate_schema", "Tables for training jobs", {})
    job_id = f"demo-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    conf: dict[str, Any] = {**training, "job_id": job_id}
    title = f"Train {job_id} from scratch on the bundled digits (needs no network)"
    _train(stack, steps, title, conf, crash_after=conf["epochs"] // 2)


def resume(stack: Stack, steps: Steps, parent: str, epochs: int) -> None:
    """Continue job `parent` from its last.pt as a new job of `epochs` epochs in total. Raises StackError."""
    job_id = f"resumed-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    conf = {"job_id": job_id, "resume_from": parent, "epochs": epochs}
    try:
        TrainingSpec.parse(conf)
    except SpecError as refusal:
        raise StackError(f"{refusal}.") from None
    stack.up(steps)
    _train(stack, steps, f"Continue {parent} as {job_id}", conf)


def _train(
    stack: Stack, steps: Steps, title: str, conf: dict[str, Any], crash_after: int | None = None
) -> None:
    job_id: str = conf["job_id"]
    steps.say(f"Watch the training run: {_build_page_url(stack, job_id)}")
    steps.say(f"Log in to Airflow:      {describe_login(stack, steps)}")
    _run(stack, steps, TRAINING_DAG, title, conf, job_id, crash_after)
    job = _get_job(stack, job_id)
    if job is None:
        raise StackError(f"The run of train_yolo succeeded, but training_jobs has no row for {job_id}.")
    _summarise(stack, steps, job)


def _run(
    stack: Stack,
    steps: Steps,
    dag_id: str,
    title: str,
    conf: dict[str, Any],
    job_id: str | None = None,
    crash_after: int | None = None,
) -> None:
    """Trigger the Dag over REST and wait for its run. Raises StackError with the reason if the run fails."""
    stack.api.wait_for_dag(dag_id)
    with steps.step(title, with_spinner=False):
        run_id = stack.api.trigger(dag_id, conf)
        state = Follower(stack, steps, dag_id, run_id, job_id, crash_after).follow()
        if state == "failed":
            raise StackError(_describe_failure(stack, dag_id, run_id, job_id))


def _describe_failure(stack: Stack, dag_id: str, run_id: str, job_id: str | None) -> str:
    sentences = [f"Run {run_id} of {dag_id} failed."]
    job = _get_job(stack, job_id) if job_id else None
    if job is not None and job.error:
        sentences.append(f"The row of job {job_id} says: {job.error}")
    for task in stack.api.list_task_instances(dag_id, run_id):
        if task["state"] == "failed":
            lines = stack.api.read_log(dag_id, run_id, task["task_id"], task["try_number"])
            sentences.append(f"The log of task {task['task_id']} ends with:\n{indent_last(lines)}")
    sentences.append(f"Details: {stack.url}/dags/{dag_id}/runs/{quote(run_id)}")
    return "\n".join(sentences)


def _get_job(stack: Stack, job_id: str) -> TrainingJob | None:
    with psycopg.connect(stack.training_db_url) as connection:
        return JobRepository(connection).get(job_id)


def _summarise(stack: Stack, steps: Steps, job: TrainingJob) -> None:
    known = find_quality(job.metrics or {})
    trained = (job.epoch or 0) + 1
    say = steps.say
    say("")
    attempts = f", in {job.attempt} attempts" if (job.attempt or 1) > 1 else ""
    say(f"Job {job.job_id} in training_jobs: {job.status}, epoch {trained} of {job.epochs}{attempts}")
    if known:
        say(f"  {known[0]:<9} {known[1]:.3f}")
    say(_describe_object(stack, "best.pt", job.get_checkpoint("best")))
    say(_describe_object(stack, "last.pt", job.get_checkpoint("last")))
    say("")
    say(f"Curves and downloads:   {_build_page_url(stack, job.job_id)}")
    say(f"Airflow's UI:           {stack.url}   ({describe_login(stack, steps)})")
    say(f"Train for more epochs:  make resume JOB={job.job_id} EPOCHS={trained + 5}")
    say('Set up psql, S3, curl:  eval "$(make -s env)"')
    say("Stop the stack:         make down   (`make up` starts it again; the data stay in .stack/)")


def describe_login(stack: Stack, steps: Steps) -> str:
    """Return how to log in. Only a terminal gets the password, because other people may read a log."""
    # Not `is_terminal`, which FORCE_COLOR makes true even for a file.
    if steps.console.file.isatty():
        return f"user {stack.username}, password {stack.password}"
    return f"user {stack.username}; `make env` prints the password (AIRFLOW_PASSWORD)"


def _build_page_url(stack: Stack, job_id: str) -> str:
    """Return the URL of the job's page in the console, within Airflow's UI."""
    return f"{stack.url}/plugin/trainings{PREFIX}/job?id={quote(job_id)}"


def _describe_object(stack: Stack, name: str, recorded: RecordedCheckpoint | None) -> str:
    """Return a description of the object in S3. Raises StackError if it does not match the row."""
    if recorded is None:
        raise StackError(f"The job's row does not name a {name}.")
    location = S3Location.parse(recorded.path)
    head = stack.s3.client().head_object(Bucket=location.bucket, Key=location.key)
    sha256 = head["Metadata"].get("sha256")
    if sha256 != recorded.sha256:
        raise StackError(f"{recorded.path} has SHA-256 {sha256}, but the row says {recorded.sha256}.")
    return f"  {name:<9} {recorded.path}\n            {head['ContentLength'] / 1e6:.1f} MB, SHA-256 {sha256}"
