"""Counts how often a task's process was killed in a row, and stops retrying it.

Airflow evaluates no retry policy after a SIGKILL, such as the kernel's when memory is short, and would retry
the task `retries` times. So each attempt stores its number in task_state_store when it starts, and the retry
policy adds that its end was explained (by an error, an outage, a preemption). An attempt without an
explanation was killed, or lost with its machine.
"""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowRuntimeError

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

MAX_KILLS = 3
"""How many kills in a row without durable progress end the task."""

_KEY = "interruptions"
"""In task_state_store, whose values are kept for each task of each run."""


def stop_after_repeated_kills(context: Context) -> None:
    """Start an attempt of a task that stores no progress. Raises AirflowFailException after three kills."""
    start_attempt(context, progress=0)


def start_attempt(context: Context, progress: float) -> None:
    """Store that an attempt starts, with the progress so far.

    Raises AirflowFailException if the last three attempts were killed and made no progress. If Airflow does
    not respond, this attempt is not counted.
    """
    try:
        killed = _begin(context, progress)
    except AirflowRuntimeError as error:
        log.warning("Could not look up how often this task was killed: %s", error)
        return
    if killed >= MAX_KILLS:
        task = context["ti"].task_id
        raise AirflowFailException(
            f"The process of this task was killed {killed} times in a row without durable progress, so it "
            "is not retried. Most likely its machine has too little memory (`dmesg` shows whether the "
            "kernel's OOM killer ended it), or its data make it crash. Use a smaller batch, fewer workers "
            f"or a larger machine; then clear {task} and everything downstream"
        )


def mark_explained(context: Context) -> None:
    """Store that this attempt ends with a known error, and was not killed."""
    try:
        noted = _noted(context)
        if noted is not None and noted["attempt"] == context["ti"].try_number:
            context["task_state_store"].set(_KEY, {**noted, "explained": True})
    except AirflowRuntimeError as error:
        log.warning("Could not store why this attempt ends; it will count as killed: %s", error)


def fingerprint_of(context: Context) -> str:
    """Return a hash of the task's arguments and max_tries, which changes when the task is cleared."""
    task = context["task"]
    arguments = [getattr(task, name, None) for name in ("op_args", "op_kwargs")]
    # A value that is no JSON was not rendered yet; its repr may differ from attempt to attempt.
    text = json.dumps(
        [arguments, context["ti"].max_tries], sort_keys=True, default=lambda value: type(value).__qualname__
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _begin(context: Context, progress: float) -> int:
    """Store the attempt; return how many before it were killed in a row without progress."""
    attempt, killed = context["ti"].try_number, 0
    before = _noted(context)
    if before is not None and progress <= before["progress"]:
        again = before["attempt"] == attempt  # a deferred task that comes back
        if not before["explained"]:
            killed = before["killed"] + (0 if again else 1)
    noted = {"attempt": attempt, "progress": progress, "killed": killed, "explained": False}
    context["task_state_store"].set(_KEY, {**noted, "fingerprint": fingerprint_of(context)})
    return killed


def _noted(context: Context) -> dict[str, Any] | None:
    """Return what an earlier attempt with the same arguments stored."""
    stored = context["task_state_store"].get(_KEY)
    same = isinstance(stored, dict) and stored.get("fingerprint") == fingerprint_of(context)
    return stored if same and isinstance(stored, dict) else None
