"""Runs one attempt at tasks of `train_yolo` in a separate process, without Airflow itself."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from tests.support.airflow_connections import TASK_INSTANCE_ID
from tests.support.interrupted_attempts import PUBLISH_SECONDS

if TYPE_CHECKING:
    from include.checkpoints.checkpoint import CheckpointKind


DAG = "train_yolo"
TASKS = (
    "check_schema",
    "resolve_config",
    "check_dataset",
    "train",
    "upload_best",
    "upload_last",
    "record_checkpoints",
    "notify_backend",
)
"""The tasks in the order in which they run here; Airflow runs both uploads in parallel."""

DONE, AGAIN, FAILED = 0, 75, 76
"""Exit statuses: the task is done; Airflow would retry it; it failed permanently."""

LOGGED = "LOGGED "
"""Prefix of the log lines that a person would read in Airflow's log of the task."""


class Run(NamedTuple):
    """A Dag run: its conf, and a folder with the results and notes of its tasks."""

    run_id: str
    conf: dict[str, Any]
    folder: Path

    def result(self, task: str) -> Any:
        """Return the task's result, from its JSON."""
        return json.loads(self.path(task).read_text())

    def path(self, task: str) -> Path:
        """Return the path of the task's result."""
        return self.folder / f"{task}.json"


class Notes:
    """The task_state_store of one task, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, key: str) -> Any:
        """Return the value of the key, or None."""
        return self._all().get(key)

    def set(self, key: str, value: Any) -> None:
        """Set the value of the key."""
        self._path.write_text(json.dumps(self._all() | {key: value}))

    def _all(self) -> dict[str, Any]:
        return cast("dict[str, Any]", json.loads(self._path.read_text())) if self._path.exists() else {}


def run_tasks(
    environment: dict[str, str], run: Run, names: Sequence[str], attempt: int, processes: int
) -> int:
    """Run the tasks one after the other, and write their results into the run's folder.

    Tasks that are done are skipped. In Airflow each task has its own process, which would cost seconds here.
    """
    os.environ |= environment
    _give_up_root()
    _log_to_stderr()
    from include.attempt import epoch_recorder
    from include.tasks import train_yolo as tasks

    epoch_recorder._PROGRESS_SECONDS = 0.02  # so that lost training time is measured to within a batch
    tasks.is_running = lambda dag_id, run_id: True  # type: ignore[attr-defined] # asks Airflow
    if processes > 1:
        from tests.support.interrupted_attempts import _share_cpu

        _share_cpu(processes)
    for name in names:
        if not run.path(name).exists() and (status := _run_task(run, name, attempt)) != DONE:
            return status
    return DONE


def _run_task(run: Run, task: str, attempt: int) -> int:
    from airflow.sdk.exceptions import AirflowFailException

    from include.orchestration import interruptions
    from include.orchestration.failures import record_task_failure
    from include.orchestration.retries import DEFAULT_ARGS, ErrorCountPolicy

    context = _context(run, task, attempt)
    log = logging.getLogger("include.task")
    try:
        if task != "train":
            interruptions.stop_after_repeated_kills(context)
        result = _program(task)(run, context)
    except Exception as error:
        log.error("%s: %s", type(error).__name__, str(error).strip())  # noqa: TRY400 - as people read it
        policy = ErrorCountPolicy() if task == "train" else DEFAULT_ARGS["retry_policy"]
        if not isinstance(error, AirflowFailException):
            decision = policy.evaluate(error, attempt, 50, context)
            if decision.action.name == "RETRY":
                return AGAIN
        record_task_failure(cast("Any", context | {"exception": error}))
        return FAILED
    part = run.path(task).with_suffix(".part")
    part.write_text(json.dumps(result))
    part.rename(run.path(task))
    return DONE


def _program(task: str) -> Callable[[Run, Any], Any]:
    from pydantic import TypeAdapter

    from include.attempt.manifest import TrainingManifest
    from include.checkpoints.checkpoint import Checkpoint
    from include.claim.resolved_job import ResolvedJob
    from include.datasets.reference import DatasetReference
    from include.orchestration.current_schema import require_current_schema
    from include.tasks import train_yolo as tasks

    def job(run: Run) -> ResolvedJob:
        """Return the job, set to save states more often than a spec allows: an epoch takes only a second."""
        job = ResolvedJob.model_validate(run.result("resolve_config"))
        spec = job.spec.model_copy(update={"publish_seconds": PUBLISH_SECONDS})
        return job.model_copy(update={"spec": spec})

    def dataset(run: Run) -> DatasetReference:
        return DatasetReference.model_validate(run.result("check_dataset"))

    def upload(run: Run, kind: CheckpointKind, context: Any) -> Any:
        manifest = TrainingManifest.model_validate(run.result("train"))
        stored = tasks.upload_checkpoint(manifest, kind, context)
        return TypeAdapter(Checkpoint).dump_python(stored, mode="json")

    def dump(model: Any) -> Any:
        return model.model_dump(mode="json")

    programs: dict[str, Callable[[Run, Any], Any]] = {
        "check_schema": lambda run, context: require_current_schema(),
        "resolve_config": lambda run, context: dump(tasks.resolve_config(context)),
        "check_dataset": lambda run, context: dump(tasks.check_job_dataset(job(run), context)),
        "train": lambda run, context: dump(tasks.train_job(job(run), dataset(run), context)),
        "upload_best": lambda run, context: upload(run, "best", context),
        "upload_last": lambda run, context: upload(run, "last", context),
        "record_checkpoints": lambda run, context: _record(run),
        "notify_backend": lambda run, context: tasks.notify_backend(job(run), context),
    }
    return programs[task]


def _record(run: Run) -> None:
    """Do the work of the TrainingSqlOperator, with the same hook, statement and handler."""
    from include.attempt.manifest import TrainingManifest
    from include.checkpoints.checkpoint import CHECKPOINT_KINDS, Checkpoint
    from include.deployment.settings import TRAINING_DB
    from include.deployment.training_db_hook import TrainingDbHook
    from include.jobs.recorded_checkpoint import build_checkpoint_columns
    from include.orchestration.failures import require_one_row
    from include.queries import load_query

    manifest = TrainingManifest.model_validate(run.result("train"))
    values: dict[str, Any] = {
        "job_id": manifest.job_id,
        "run_id": run.run_id,
        "status": manifest.status,
        "epoch": manifest.epoch,
        "batch": manifest.last.batch,
        "epochs": manifest.epochs,
        "metrics": json.dumps(manifest.metrics),
    }
    for kind in CHECKPOINT_KINDS:
        values |= build_checkpoint_columns(kind, Checkpoint(**run.result(f"upload_{kind}")))
    TrainingDbHook(postgres_conn_id=TRAINING_DB).run(
        load_query("record_checkpoints").decode(),
        parameters=values,
        handler=require_one_row,
        autocommit=False,
    )


def _context(run: Run, task: str, attempt: int) -> Any:
    from include.orchestration.runs import find_creation

    dag_run = SimpleNamespace(
        dag_id=DAG,
        run_id=run.run_id,
        run_after=datetime.now(UTC),
        start_date=find_creation(TASK_INSTANCE_ID, None),
        triggering_user_name="ada",
        conf=run.conf,
    )
    return {
        "dag": SimpleNamespace(dag_id=DAG),
        "dag_run": dag_run,
        "run_id": run.run_id,
        "task": SimpleNamespace(op_args=[], op_kwargs={}),
        "task_state_store": Notes(run.folder / f"{task}.notes.json"),
        "ti": SimpleNamespace(id=TASK_INSTANCE_ID, task_id=task, try_number=attempt, max_tries=50),
    }


def _give_up_root() -> None:
    """Drop CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, so that folders can be read-only even for root."""
    if os.geteuid() == 0:
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        rights = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, in two halves
        libc = ctypes.CDLL(None, use_errno=True)
        libc.capget(header, rights)
        for index in range(3):
            rights[index] &= ~0b110
        if libc.capset(header, rights):
            raise OSError(ctypes.get_errno(), "capset")


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine())
    ours = logging.getLogger("include")
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    ours.propagate = False


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{LOGGED}{record.levelname} {' '.join(record.getMessage().split())}"
