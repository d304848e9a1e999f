"""Reads and triggers Dag runs through Airflow's REST API, with the login of the user who sent the request.

Airflow therefore checks that user's permissions, and records the user in its audit log.

A route that uses this module waits for a second request to the same process, so every such route must be
decorated with `in_own_thread`.
"""

from __future__ import annotations

import logging
import sys
from functools import partial, wraps
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar
from urllib.parse import quote

import httpx
from anyio import CapacityLimiter, from_thread, to_thread

from include.api.problems import ProblemError
from include.orchestration.failures import REFUSAL
from include.orchestration.runs import ACTIVE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fastapi import Request

    from include.request import Request as DagRequest

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_LOGIN = ("authorization", "cookie")

_CALLERS = CapacityLimiter(16)
"""Maximum number of concurrent calls to Airflow's API in this process. It is lower than the number of threads
that Airflow's routes share with ours, so that these calls cannot occupy every thread."""


def in_own_thread(route: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    """Decorate a plain `def` route that calls Airflow's API, so that it occupies none of the shared threads.

    Airflow's routes run in the shared threads, too. If every shared thread waited for a route of Airflow,
    none of these routes could run, and the process would hang for ever.
    """

    @wraps(route)
    async def run(*args: P.args, **options: P.kwargs) -> T:
        return await to_thread.run_sync(partial(route, *args, **options), limiter=_CALLERS)

    return run


def end_run(request: Request, dag_id: str, run_id: str) -> None:
    """Mark the run as failed, using the login of `request`.

    Airflow requires the right to edit runs for this, but a user may stop a job without that right. A refusal
    is therefore only logged: the run fails by itself when it next claims the job, starts an attempt or gets
    its GPU.
    """
    answer = _send(
        request, "PATCH", dag_id, run_id, params={"update_mask": "state"}, json={"state": "failed"}
    )
    if answer is None or answer.status_code != HTTPStatus.OK:
        log.warning("Airflow did not mark run %s of %s as failed: %s", run_id, dag_id, answer and answer.text)


def trigger_run(request: Request, wanted: DagRequest) -> str:
    """Trigger a run, using the login of `request`, and return the run's id. Raises ProblemError."""
    dag_id, conf = wanted.dag_id, wanted.model_dump(mode="json", exclude_none=True)
    answer = _send(request, "POST", dag_id, json={"logical_date": None, "conf": conf})
    if answer is None:
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            f"This server does not serve Airflow's API: trigger {dag_id} on a server that does",
        )
    if answer.status_code != HTTPStatus.OK:
        log.warning("Airflow did not trigger %s: %s", dag_id, answer.text)
        status = HTTPStatus(answer.status_code)
        raise ProblemError(
            status if status < HTTPStatus.INTERNAL_SERVER_ERROR else HTTPStatus.SERVICE_UNAVAILABLE,
            f"Airflow did not trigger {dag_id} ({status.phrase}); the API server's log says why",
        )
    return str(answer.json()["dag_run_id"])


def find_run(request: Request, dag_id: str, run_id: str) -> dict[str, Any] | None:
    """Return the run as Airflow's API describes it, or None if the API does not return it.

    None means one of three things: the run does not exist, the user may not see it, or this process does not
    serve the API. Raises ProblemError (503) if the API fails, because the run may exist.
    """
    found: dict[str, Any] | None = _look_up(request, dag_id, run_id)
    return found


def read_result(request: Request, dag_id: str, run_id: str, task_id: str, key: str) -> Any:
    """Return the XCom that a task stored under that key; None if the API does not return it.

    Airflow's REST API returns the stored JSON, so this process does not deserialize it into objects. Raises
    ProblemError (503) if the API fails, because the XCom may exist.
    """
    found = _look_up(request, dag_id, run_id, "taskInstances", task_id, "xcomEntries", key)
    return None if found is None else found["value"]


def read_failure(
    request: Request, dag_id: str, run_id: str, *task_ids: str
) -> tuple[Literal["refused", "failed"], str]:
    """Return "refused" and the reason if a task refused the request; otherwise, "failed" and where to look.

    Users who may not read XComs always get "failed". Raises ProblemError (503) if Airflow's API fails.
    """
    for task_id in task_ids:
        refusal = read_result(request, dag_id, run_id, task_id, REFUSAL)
        if isinstance(refusal, str):
            return "refused", refusal
    return "failed", f"The run failed, and its log says why: see run {run_id} of {dag_id}."


def is_run_active(request: Request, dag_id: str, run_id: str) -> bool:
    """Return whether the run is queued or running; False if `find_run` does not find the run.

    Raises ProblemError (503) if Airflow's API fails.
    """
    run = find_run(request, dag_id, run_id)
    return run is not None and run["state"] in ACTIVE


def _look_up(request: Request, dag_id: str, run_id: str, *below: str) -> Any:
    """Return what Airflow's API has about a run; None if it does not return anything.

    Raises ProblemError (503) if the API fails.
    """
    if run_id in {".", ".."} or "\0" in run_id:  # a URL and a database cannot contain these as they are
        return None
    answer = _send(request, "GET", dag_id, run_id, *below)
    if answer is not None and answer.is_server_error:
        log.warning("Airflow could not look up run %r of %s: %s", run_id, dag_id, answer.text)
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            f"Airflow could not look up run {run_id!r:.200} of {dag_id}: try again later; the API "
            "server's log says why",
            {"Retry-After": "10"},
        )
    return None if answer is None or answer.status_code != HTTPStatus.OK else answer.json()


def _send(
    request: Request, method: Literal["GET", "POST", "PATCH"], dag_id: str, *below: str, **options: Any
) -> httpx.Response | None:
    """Call Airflow's API within this process and return its response; None if the process lacks the API."""
    server = sys.modules.get("airflow.api_fastapi.main")
    if server is None:
        return None
    path = "/".join(["/api/v2/dags", *(quote(part, safe="") for part in (dag_id, "dagRuns", *below))])
    login = {name: request.headers[name] for name in _LOGIN if name in request.headers}

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(server.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://airflow") as client:
            return await client.request(method, path, headers=login, **options)

    return from_thread.run(ask)
