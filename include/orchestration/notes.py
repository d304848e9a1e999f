"""Writes notes on Dag runs, which users see in the list of runs before they open a log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow.sdk.exceptions import AirflowNotFoundException

from include.deployment.settings import TRAINING_AIRFLOW
from include.plain_text import escape_controls

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

LONGEST = 1000
"""Airflow's limit for the length of a note, in characters."""

_TIMEOUT_SECONDS = 10


def leave_note(context: Context, text: str) -> None:
    """Set the note of this task's run to `text`.

    Airflow does not let tasks write notes, so this function logs in as the user in connection
    `training_airflow`. That connection's host must be Airflow's complete URL. If there is no such connection,
    or if Airflow does not respond, the task continues without a note.
    """
    import requests
    from airflow.sdk import BaseHook

    run, text = context["dag_run"], escape_controls(text)
    try:
        connection = BaseHook.get_connection(TRAINING_AIRFLOW)
    except AirflowNotFoundException:
        return
    url = (connection.host or "").rstrip("/")
    user = {"username": connection.login, "password": connection.password}
    try:
        answer = requests.post(f"{url}/auth/token", json=user, timeout=_TIMEOUT_SECONDS)
        answer.raise_for_status()
        noted = requests.patch(
            f"{url}/api/v2/dags/{quote(run.dag_id, safe='')}/dagRuns/{quote(run.run_id, safe='')}",
            params={"update_mask": "note"},
            json={"note": text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"},
            headers={"Authorization": f"Bearer {answer.json()['access_token']}"},
            timeout=_TIMEOUT_SECONDS,
        )
        noted.raise_for_status()
    except (requests.RequestException, KeyError) as error:
        log.warning("Could not set the note of this run in Airflow at %s: %s", url, error)
