"""A task whose process is killed again and again at the same place is not started for ever.

Airflow asks no retry policy after a SIGKILL, such as the kernel's when memory is short, and would start the
task `retries` times. So each attempt leaves a note in task_state_store when it begins, and a policy adds that
its end was explained (an error, an outage, a preemption). Where the explanation is missing, the attempt was
killed, or lost with its machine.
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

KILLS = 3
"""So many in a row, without durable progress, end the task."""

_KEY = "interruptions"
"""In task_state_store, whose values are kept for each task of each run."""


def refuse_a_killer(context: Context) -> None:
    """Begin an attempt of a task that keeps nothing. Raises AirflowFailException after three kills."""
    begin_attempt(context, progress=0)


def begin_attempt(context: Context, progress: int) -> None:
    """Note that an attempt begins, and how far those before it have come.

    Raises AirflowFailException where three in a row were killed and progress is what it was before them. What
    Airflow does not answer here is not counted, which is no reason to fail.
    """
    try:
        killed = _begin(context, progress)
    except AirflowRuntimeError as error:
        log.warning("It is not known how often this task was killed: %s", error)
        return
    if killed >= KILLS:
        task = context["ti"].task_id
        raise AirflowFailException(
            f"The process of this task was killed {killed} times in a row without durable progress, so it "
            "is not started again. Most likely its machine has too little memory (`dmesg` tells whether the "
            "kernel's OOM killer ended it), or something that it reads makes it crash. Give it a smaller "
            f"batch, fewer workers or a larger machine; then clear {task} with all after it"
        )


def explain(context: Context) -> None:
    """Note that this attempt ends with an error of which somebody was told."""
    try:
        noted = _noted(context)
        if noted is not None and noted["attempt"] == context["ti"].try_number:
            context["task_state_store"].set(_KEY, {**noted, "explained": True})
    except AirflowRuntimeError as error:
        log.warning("It could not be noted that this attempt was not killed: %s", error)


def fingerprint_of(context: Context) -> str:
    """What the task was called with. Clearing changes max_tries: somebody wants it to be tried again."""
    task = context["task"]
    arguments = [getattr(task, name, None) for name in ("op_args", "op_kwargs")]
    # A value that is no JSON was not rendered yet; its repr may differ from attempt to attempt.
    text = json.dumps(
        [arguments, context["ti"].max_tries], sort_keys=True, default=lambda value: type(value).__qualname__
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _begin(context: Context, progress: int) -> int:
    """Note the attempt; returns how many before it were killed in a row, without progress since."""
    attempt, killed = context["ti"].try_number, 0
    before = _noted(context)
    if before is not None and progress <= before["progress"]:
        again = before["attempt"] == attempt  # a deferred task that comes back
        killed = before["killed"] + (0 if before["explained"] or again else 1)
    noted = {"attempt": attempt, "progress": progress, "killed": killed, "explained": False}
    context["task_state_store"].set(_KEY, {**noted, "fingerprint": fingerprint_of(context)})
    return killed


def _noted(context: Context) -> dict[str, Any] | None:
    """What an attempt with the same arguments has noted."""
    stored = context["task_state_store"].get(_KEY)
    same = isinstance(stored, dict) and stored.get("fingerprint") == fingerprint_of(context)
    return stored if same and isinstance(stored, dict) else None
