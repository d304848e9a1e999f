"""The stack under test as its users see it: Airflow's REST API, a job's row and its objects."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import airflow_client.client as airflow
import psycopg
from airflow_client.client.api import (
    asset_api,
    connection_api,
    dag_api,
    dag_run_api,
    pool_api,
    task_instance_api,
)
from psycopg.rows import dict_row

from include.stack.local import Stack
from tests.support.api_client import log_in_over_rest
from tests.support.waiting import until


class Airflow:
    """Airflow's official client, logged in to the stack under test."""

    def __init__(self, stack: Stack) -> None:
        self._logs = stack.airflow.home / "logs"
        login = airflow.Configuration(host=stack.url, access_token=log_in_over_rest(stack))
        self._client = airflow.ApiClient(login)
        self._runs = dag_run_api.DagRunApi(self._client)
        self._tasks = task_instance_api.TaskInstanceApi(self._client)
        self._dags = dag_api.DAGApi(self._client)
        self._assets = asset_api.AssetApi(self._client)
        self._pools = pool_api.PoolApi(self._client)
        self.connections = connection_api.ConnectionApi(self._client)

    def trigger(self, dag_id: str, conf: dict[str, Any], logical_date: datetime | None = None) -> str:
        body = airflow.TriggerDAGRunPostBody(logical_date=logical_date, conf=conf)
        return str(self._runs.trigger_dag_run(dag_id, body).dag_run_id)

    def state(self, dag_id: str, run_id: str) -> str:
        return str(self._runs.get_dag_run(dag_id, run_id).state.value)

    def note(self, dag_id: str, run_id: str) -> str | None:
        note: str | None = self._runs.get_dag_run(dag_id, run_id).note
        return note

    def wait(self, dag_id: str, run_id: str, seconds: float = 300) -> str:
        until(
            lambda: self.state(dag_id, run_id) not in {"queued", "running"},
            lambda: f"the end of {dag_id} {run_id}: {self.tasks(dag_id, run_id)}",
            seconds,
            pause=0.5,
        )
        return self.state(dag_id, run_id)

    def succeeds(self, dag_id: str, run_id: str, seconds: float = 300) -> None:
        """Wait for the run, which must succeed; if it fails, the error names the state of each task."""
        assert self.wait(dag_id, run_id, seconds) == "success", self._account(dag_id, run_id)

    def run(self, dag_id: str, conf: dict[str, Any]) -> str:
        """Trigger a run and wait for its end; return its id. The run must succeed."""
        run_id = self.trigger(dag_id, conf)
        self.succeeds(dag_id, run_id)
        return run_id

    def log(self, dag_id: str, run_id: str, task_id: str, attempt: int) -> str:
        """Return the attempt's log so far, a line of JSON for each event; attempts count from 1."""
        folder = self._logs / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
        path = folder / f"attempt={attempt}.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def clear(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Clear the task and all tasks downstream of it, so that they run again."""
        body = airflow.ClearTaskInstancesBody(
            dag_run_id=run_id,
            task_ids=[airflow.ClearTaskInstancesBodyTaskIdsInner(task_id)],
            include_downstream=True,
            only_failed=False,
            dry_run=False,
        )
        self._tasks.post_clear_task_instances(dag_id, body)

    def mark(self, dag_id: str, run_id: str, state: str, task_id: str | None = None) -> None:
        """Mark the run, or one of its tasks, as `failed` or `success`, as a user can."""
        if task_id is None:
            self._runs.patch_dag_run(dag_id, run_id, airflow.DAGRunPatchBody(state=state))
        else:
            body = airflow.PatchTaskInstanceBody(new_state=state)
            self._tasks.patch_task_instance(dag_id, run_id, task_id, body)

    def delete(self, dag_id: str, run_id: str) -> None:
        """Mark the run as queued, because Airflow does not delete running runs, and delete it."""
        self.mark(dag_id, run_id, "queued")
        self._runs.delete_dag_run(dag_id, run_id)

    def ended(self, dag_id: str, run_id: str) -> bool:
        return self.state(dag_id, run_id) not in {"queued", "running"}

    def runs(self, dag_id: str) -> list[str]:
        """Return the ids of the Dag's runs."""
        return [str(run.dag_run_id) for run in self._runs.get_dag_runs(dag_id).dag_runs]

    def set_slots(self, pool: str, slots: int) -> None:
        body = airflow.PoolPatchBody(pool=pool, slots=slots, include_deferred=False)
        self._pools.patch_pool(pool, body, update_mask=["slots", "include_deferred"])

    def pause(self, dag_id: str, *, paused: bool) -> None:
        self._dags.patch_dag(dag_id, airflow.DAGPatchBody(is_paused=paused))

    def answer(self, dag_id: str, run_id: str, task_id: str, option: str) -> None:
        """Answer the question that a human-in-the-loop task asks."""
        chosen = airflow.UpdateHITLDetailPayload(chosen_options=[option])
        self._tasks.update_hitl_detail(dag_id, run_id, task_id, -1, chosen)

    def announce(self, asset: str, extra: dict[str, str]) -> None:
        """Create an event of the asset, as an outside program can."""
        (found,) = self._assets.get_assets(name_pattern=asset).assets
        self._assets.create_asset_event(airflow.CreateAssetEventsBody(asset_id=found.id, extra=extra))

    def announced(self, run_id: str) -> dict[str, dict[str, Any]]:
        """Return the extras of the asset events that the run emitted, by asset."""
        events = self._assets.get_asset_events(source_run_id=run_id).asset_events
        return {str(event.name): dict(event.extra) for event in events}

    def tasks(self, dag_id: str, run_id: str) -> dict[str, str]:
        instances = self._tasks.get_task_instances(dag_id, run_id).task_instances
        return {ti.task_id: str(ti.state.value) if ti.state else "none" for ti in instances}

    def attempt(self, dag_id: str, run_id: str, task_id: str) -> tuple[str, int]:
        """Return the unique id of the current attempt, and its number, counted from 1."""
        instance = self._tasks.get_task_instance(dag_id, run_id, task_id)
        return str(instance.id), int(instance.try_number)

    def _account(self, dag_id: str, run_id: str) -> str:
        """Return the state of each task, and the last log lines of failed tasks."""
        tasks = self.tasks(dag_id, run_id)
        account = [f"{dag_id} {run_id}: {', '.join(f'{name} {state}' for name, state in tasks.items())}"]
        for task_id in (name for name, state in tasks.items() if state == "failed"):
            for attempt in range(1, self.attempt(dag_id, run_id, task_id)[1] + 1):
                account += [f"{task_id}, attempt {attempt}:"]
                account += self.log(dag_id, run_id, task_id, attempt).splitlines()[-5:]
        return "\n".join(account)


def job_row(stack: Stack, job_id: str) -> dict[str, Any]:
    """Return the job's current row."""
    with psycopg.connect(stack.training_db_url, row_factory=dict_row) as connection:
        found = connection.execute("SELECT * FROM training_jobs WHERE job_id = %s", [job_id]).fetchone()
    assert found is not None, f"no row for {job_id}"
    return found


def recorded_epochs(stack: Stack, job_id: str) -> list[int]:
    """Return the epochs of the job that are recorded as finished, counted from 0."""
    with psycopg.connect(stack.training_db_url) as connection:
        rows = connection.execute(
            "SELECT epoch FROM training_epochs WHERE job_id = %s ORDER BY epoch", [job_id]
        ).fetchall()
    return [epoch for (epoch,) in rows]


def download(stack: Stack, uri: str, to: Path) -> Path:
    """Download the object at an s3:// URI to the file `to`; return that path."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    stack.s3.client().download_file(bucket, key, str(to))
    return to
