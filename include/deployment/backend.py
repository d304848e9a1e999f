"""Tells the host application's backend that a job has ended and that its checkpoints are recorded."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException, AirflowSkipException

from include.deployment.lookup import look_up
from include.deployment.retrying import BackendUnavailable
from include.deployment.settings import TRAINING_BACKEND

if TYPE_CHECKING:
    from include.jobs.callback import TrainingCompletionCallback

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 30

_LATER = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}


def require_backend() -> None:
    """Raise AirflowSkipException if connection `training_backend` does not exist, or LookupFailed."""
    try:
        look_up(TRAINING_BACKEND)
    except AirflowNotFoundException:
        raise AirflowSkipException(
            f"Connection {TRAINING_BACKEND} is not configured; nothing to notify."
        ) from None


def notify(callback: TrainingCompletionCallback) -> int:
    """POST the callback to connection `training_backend` and return the HTTP status.

    The connection's host is the complete URL; its extra contains additional headers, such as Authorization.
    Every attempt sends the same Idempotency-Key, and a failure does not change the job's row. Raises
    AirflowSkipException if the connection does not exist, LookupFailed if Airflow cannot look it up,
    BackendUnavailable if the backend is unavailable, and AirflowException if the backend refuses or redirects
    the callback.
    """
    import requests
    from airflow.providers.http.hooks.http import HttpHook

    require_backend()
    hook = HttpHook(method="POST", http_conn_id=TRAINING_BACKEND)
    try:
        response = hook.run(
            data=callback.model_dump_json(),
            headers={
                "Content-Type": "application/json",
                "Idempotency-Key": f"{callback.job_id}:{callback.get_checkpoint('last').sha256}",
            },
            extra_options={"timeout": TIMEOUT_SECONDS, "check_response": False},
        )
    except (requests.ConnectionError, requests.Timeout) as error:
        raise BackendUnavailable(f"The backend at {hook.base_url} does not respond: {error}") from error
    if response.request.method != "POST" or response.is_redirect:
        # Most redirects, such as one to a login page, turn a POST into a GET, which has no body.
        target = response.headers.get("Location", response.url).partition("?")[0]
        raise AirflowException(
            f"The backend at {hook.base_url} redirected to {target}, so the job was not sent: set the host "
            f"of connection {TRAINING_BACKEND} to the final URL, and check its login"
        )
    if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or response.status_code in _LATER:
        raise BackendUnavailable(f"The backend at {hook.base_url} responded with HTTP {response.status_code}")
    hook.check_response(response)
    log.info("The backend was notified: HTTP %s", response.status_code)
    return int(response.status_code)
