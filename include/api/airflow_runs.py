"""Dag runs, through Airflow's REST API on behalf of the caller, so that its permissions and audit apply."""

from __future__ import annotations

import logging
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import anyio.from_thread
import httpx

if TYPE_CHECKING:
    from fastapi import Request

log = logging.getLogger(__name__)

_LOGIN = ("authorization", "cookie")


def end_run(request: Request, dag_id: str, run_id: str) -> None:
    """Mark the run as failed, with the login of `request`; call it only from a plain `def` route.

    If Airflow refuses, the run still ends by itself as soon as its next task sees that its job was stopped.
    """
    answer = _send(
        request, "PATCH", dag_id, run_id, params={"update_mask": "state"}, json={"state": "failed"}
    )
    if answer is None or answer.status_code != HTTPStatus.OK:
        log.warning("Airflow did not mark run %s of %s as failed: %s", run_id, dag_id, answer and answer.text)


def is_running(request: Request, dag_id: str, run_id: str) -> bool:
    """Say whether the run is queued or running, as far as the user who sent `request` may see it."""
    answer = _send(request, "GET", dag_id, run_id)
    if answer is None or answer.status_code != HTTPStatus.OK:
        return False
    return answer.json()["state"] in {"queued", "running"}


def _send(request: Request, method: str, dag_id: str, run_id: str, **options: Any) -> httpx.Response | None:
    """Call Airflow's application in this very process, without the network; None if it is not served here."""
    server = sys.modules.get("airflow.api_fastapi.main")
    if server is None:
        return None
    path = f"/api/v2/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}"
    login = {name: request.headers[name] for name in _LOGIN if name in request.headers}

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(server.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://airflow") as client:
            return await client.request(method, path, headers=login, **options)

    return anyio.from_thread.run(ask)
