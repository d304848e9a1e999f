"""The status that each user gets for every route, with the roles that docs/access.md recommends.

The table has every route of the API and of the console, and those routes of Airflow that the roles restrict:
runs of each Dag, logs and XComs, questions, audit log, connections, variables, asset events.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from include.api.app import PREFIX
from include.console import PREFIX as CONSOLE
from include.console import app as console
from tests.support.ask_as_roles import USERS

EVERYBODY = (None, *USERS)
"""Users are named after their roles; `newcomer` has no role, and None means that nobody is logged in."""

Expected = dict[str | None, int]


def only(*users: str, status: int = 200, others: int = 403) -> Expected:
    """Expect `status` for these users, and `others` for all other users with a role."""
    return dict.fromkeys(USERS, others) | {None: 401, "newcomer": 403} | dict.fromkeys(users, status)


def may_see(status: int = 200) -> Expected:
    """Expect `status` for every user with a role."""
    return only(others=status)


ALL_USERS: Expected = dict.fromkeys(USERS, 200) | {None: 401}
ADMINISTRATOR = ("administrator",)
TRAINERS = ("trainer", "administrator")
COMPLETION = {
    f"{kind}_checkpoint_path": f"s3://training-checkpoints/checkpoints/access-ada/{kind}.pt"
    for kind in ("best", "last")
}


@dataclass(frozen=True)
class Row:
    """A route, an example path of the route, and the status that each user gets for it."""

    method: str
    route: str
    path: str
    expected: Expected
    body: Any = None


OURS = [
    Row("GET", "/openapi.json", "/openapi.json", ALL_USERS),
    Row("GET", "/session", "/session", ALL_USERS),
    Row("GET", "/models", "/models", may_see()),
    Row("GET", "/models/{name}/{version}", "/models/access/1", may_see()),
    Row("GET", "/datasets", "/datasets", may_see()),
    Row("GET", "/datasets/{name}", "/datasets/access", may_see()),
    Row("GET", "/datasets/{name}/versions/{version}", "/datasets/access/versions/1", may_see()),
    Row(
        "GET",
        "/datasets/{name}/versions/{version}/difference",
        "/datasets/access/versions/2/difference",
        may_see(422),
    ),
    Row(
        "GET",
        "/datasets/{name}/registrations/{run_id:path}",
        "/datasets/access/registrations/manual__1",
        may_see(404),
    ),
    Row(
        "GET",
        "/datasets/{name}/versions/{version}/samples",
        "/datasets/access/versions/1/samples",
        may_see(),
    ),
    Row(
        "GET",
        "/datasets/{name}/versions/{version}/samples/{sample}",
        "/datasets/access/versions/1/samples/0.jpg",
        may_see(404),
    ),
    # Users who may register data get 422, because the body names no data.
    Row("POST", "/datasets/{name}/versions", "/datasets/access/versions", only(*TRAINERS, status=422), {}),
    Row(
        "POST",
        "/datasets/{name}/versions/{version}/archive",
        "/datasets/access/versions/1/archive",
        only(*TRAINERS),
    ),
    Row(
        "POST",
        "/datasets/{name}/versions/{version}/restore",
        "/datasets/access/versions/1/restore",
        only(*TRAINERS),
    ),
    # eve registered the version, so other users may not delete it.
    Row(
        "DELETE",
        "/datasets/{name}/versions/{version}",
        "/datasets/access/versions/1",
        only(*TRAINERS, status=403),
    ),
    Row("GET", "/jobs", "/jobs", may_see()),
    Row("GET", "/jobs/{job_id}", "/jobs/access-ada", may_see()),
    Row("GET", "/jobs/{job_id}/epochs", "/jobs/access-ada/epochs", may_see()),
    Row("GET", "/jobs/{job_id}/lineage", "/jobs/access-ada/lineage", may_see()),
    Row("GET", "/jobs/{job_id}/class-table", "/jobs/access-ada/class-table", may_see()),
    Row("GET", "/jobs/{job_id}/dataset-report", "/jobs/access-ada/dataset-report", may_see(404)),
    Row("GET", "/jobs/{job_id}/events", "/jobs/access-ada/events", may_see()),
    Row("GET", "/jobs/{job_id}/checkpoints/{kind}", "/jobs/access-ada/checkpoints/best", may_see(404)),
    Row("GET", "/jobs/{job_id}/checkpoints/{kind}", "/jobs/access-stored/checkpoints/last", may_see(307)),
    Row("GET", "/jobs/{job_id}/pictures", "/jobs/access-ada/pictures", may_see()),
    Row("GET", "/jobs/{job_id}/pictures/{name}", "/jobs/access-ada/pictures/results.png", may_see(404)),
    Row("GET", "/usage", "/usage", may_see()),
    Row("GET", "/usage/jobs", "/usage/jobs", may_see()),
    Row("GET", "/deletions/{run_id:path}", "/deletions/manual__1", may_see(404)),
    Row("POST", "/validate", "/validate", only(*TRAINERS), {}),
    # ada's job has ended; the trainer's job has not.
    Row("POST", "/jobs/{job_id}/stop", "/jobs/access-ada/stop", only("administrator", status=409)),
    Row("POST", "/jobs/{job_id}/stop", "/jobs/access-trainer/stop", only(*TRAINERS, status=202)),
    Row("POST", "/jobs/{job_id}/archive", "/jobs/access-ada/archive", only("administrator")),
    Row("POST", "/jobs/{job_id}/archive", "/jobs/access-trainer/archive", only(*TRAINERS, status=409)),
    Row("DELETE", "/jobs/{job_id}/archive", "/jobs/access-ada/archive", only("administrator")),
    Row("DELETE", "/jobs/{job_id}/archive", "/jobs/access-trainer/archive", only(*TRAINERS)),
    # Users who may delete a job are told to repeat its id.
    Row("DELETE", "/jobs/{job_id}", "/jobs/access-ada?confirm=x", only("administrator", status=409)),
    Row("DELETE", "/jobs/{job_id}", "/jobs/access-trainer?confirm=x", only(*TRAINERS, status=409)),
    # Users who may complete the job are told that its files do not exist.
    Row(
        "POST",
        "/jobs/{job_id}/completion",
        "/jobs/access-ada/completion",
        only("administrator", status=422),
        COMPLETION,
    ),
    # For users who may upload, the empty body is refused.
    Row("POST", "/uploads", "/uploads", only(*TRAINERS, status=422), {}),
    Row("GET", "/uploads/{upload_id}", "/uploads/access", may_see(404)),
    Row("POST", "/uploads/{upload_id}/parts", "/uploads/access/parts", only(*TRAINERS, status=422), {}),
    Row("POST", "/uploads/{upload_id}/complete", "/uploads/access/complete", only(*TRAINERS, status=404)),
    Row("DELETE", "/uploads/{upload_id}", "/uploads/access", only(*TRAINERS, status=404)),
    Row("GET", "/pretrained", "/pretrained", may_see()),
    # For users who may store a file, the empty file is refused.
    Row("PUT", "/pretrained/{name}", "/pretrained/access.pt", only(*TRAINERS, status=422)),
]

PAGES = [
    Row("GET", "/", "/", dict.fromkeys(USERS, 307) | {None: 401}),
    *(Row("GET", f"/{page}", f"/{page}", ALL_USERS) for page in console.PAGES),
    Row("GET", "/static/{version}/{name:path}", "/static/current/h.js", ALL_USERS),
]

STARTS = {
    "train_yolo": TRAINERS,
    "register_dataset": TRAINERS,
    "delete_data": TRAINERS,
    "retrain_yolo": ("approver", "administrator"),
    "promote_model": ("approver", "administrator"),
    "retrain_yolo__shapes": ADMINISTRATOR,
    "migrate_schema": ADMINISTRATOR,
    "audit_checkpoints": ADMINISTRATOR,
    "watch_dataset": ADMINISTRATOR,
}
"""The users who may start runs of each Dag."""


RUNS = "/dags/train_yolo/dagRuns"
TASK = f"{RUNS}/none/taskInstances/train"
BY_ADMINISTRATOR = only("administrator", status=404)


def runs_of(dag_id: str) -> Iterator[Row]:
    """Yield requests that start or mark runs, with a bad body or a missing run, so that none takes effect."""
    runs = f"/dags/{dag_id}/dagRuns"
    yield Row("POST", "start", runs, only(*STARTS[dag_id], status=422), {})
    yield Row("PATCH", "mark", f"{runs}/none", BY_ADMINISTRATOR, {"state": "failed"})


def several(entity: dict[str, Any]) -> dict[str, Any]:
    """Return the body of a request that changes entities in bulk."""
    return {"actions": [{"action": "update", "entities": [entity]}]}


QUESTION = "/dags/retrain_yolo/dagRuns/none/taskInstances/ask_approval/-1/hitlDetails"
AIRFLOW = [
    *(row for dag_id in STARTS for row in runs_of(dag_id)),
    Row("GET", "see", RUNS, may_see()),
    Row("GET", "see logs", f"{TASK}/logs/1", may_see(404)),
    Row("GET", "see XComs", f"{TASK}/xcomEntries/return_value", may_see(404)),
    Row("DELETE", "delete", f"{RUNS}/none", BY_ADMINISTRATOR),
    Row("POST", "clear", f"{RUNS}/none/clear", BY_ADMINISTRATOR, {"dry_run": True}),
    Row("PATCH", "mark a task", TASK, BY_ADMINISTRATOR, {"new_state": "failed"}),
    # Airflow answers 200 to requests about several runs, and reports the result for each run in the body.
    Row(
        "PATCH",
        "mark several",
        RUNS,
        only("administrator"),
        several({"dag_run_id": "none", "state": "failed"}),
    ),
    Row(
        "PATCH",
        "mark several tasks",
        f"{RUNS}/none/taskInstances",
        only("administrator"),
        several({"task_id": "train", "new_state": "failed"}),
    ),
    Row(
        "POST",
        "clear several",
        "/dags/train_yolo/clearDagRuns",
        BY_ADMINISTRATOR,
        {"dag_runs": [{"dag_run_id": "none"}]},
    ),
    Row("POST", "clear tasks", "/dags/train_yolo/clearTaskInstances", only("administrator"), {}),
    Row("POST", "add XComs", f"{TASK}/xcomEntries", BY_ADMINISTRATOR, {"key": "return_value", "value": 1}),
    Row("DELETE", "delete XComs", f"{TASK}/xcomEntries/return_value", BY_ADMINISTRATOR),
    Row("PATCH", "edit XComs", f"{TASK}/xcomEntries/return_value", BY_ADMINISTRATOR, {"value": 1}),
    Row("PATCH", "pause", "/dags/train_yolo", only(*TRAINERS, status=422), {"is_paused": "?"}),
    Row(
        "PATCH",
        "answer",
        QUESTION,
        only("approver", "administrator", status=404),
        {"chosen_options": ["Approve"], "params_input": {}},
    ),
    Row("GET", "audit log", "/eventLogs", only("auditor", "administrator")),
    Row("GET", "connections", "/connections", only("administrator")),
    Row("GET", "variables", "/variables", only("administrator")),
    Row("POST", "new data", "/assets/events", only("administrator", status=422), {}),
]

TABLE = [
    (f"{prefix}{row.path}", row)
    for prefix, rows in ((PREFIX, OURS), (CONSOLE, PAGES), ("/api/v2", AIRFLOW))
    for row in rows
]

DISTINGUISHING = [
    (path, row)
    for path, row in TABLE
    if path in {f"{PREFIX}/jobs", "/api/v2/eventLogs"} or (row.route == "start" and row.method == "POST")
]
"""Rows that together distinguish each role from every other one."""
