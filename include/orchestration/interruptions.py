"""Counts the consecutive interruptions of a task, and stops its retries if the task makes no progress.

After a SIGKILL, such as the kernel's when memory runs out, Airflow evaluates no retry policy and would retry
the task `retries` times. Therefore each attempt stores its number in task_state_store when it starts. If it
ends with an error, an outage or a preemption, the retry policy marks it as explained. An attempt without an
explanation was killed, or lost with its machine. The watchdog's traces are also stored, so that the last
failure can name the most likely cause. Attempts that left nothing do not count: while the API server is
unavailable, Airflow ends each attempt before it starts.

Durable progress resets the counts of kills, interruptions and errors: a job that advances can be interrupted
for weeks.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowRuntimeError

from include.watchdog.traces import Trace, explain_kills

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

log = logging.getLogger(__name__)

MAX_KILLS = 3
"""Number of consecutive kills without durable progress after which the task fails."""

MAX_INTERRUPTIONS = 50
"""Maximum number of consecutive interruptions of any kind without durable progress; after one more, the task
is not retried. During an outage, that many retries take two hours."""

_KEY = "interruptions"
"""Key in task_state_store, which has separate values for each task of each run."""


def stop_after_repeated_kills(context: Context) -> None:
    """Call `start_attempt` for a task that does not measure its progress.

    Raises AirflowFailException after three kills.
    """
    start_attempt(context, progress=(0,))


def start_attempt(context: Context, progress: Sequence[int], trace: Trace | None = None) -> None:
    """Record that an attempt starts, and the progress so far.

    `progress` holds numbers that are compared in order, such as an epoch and a batch. `trace` is the
    watchdog's trace of the previous attempt, if this machine has one.

    Raises AirflowFailException if the last three attempts were killed, or the last 51 interrupted, without
    progress. If Airflow does not respond, the attempt starts unchecked and uncounted.
    """
    try:
        kills, interruptions = _store_start(context, progress, trace)
    except AirflowRuntimeError as error:
        log.warning("Could not look up how often this task was killed: %s", error)
        return
    task = context["ti"].task_id
    if len(kills) >= MAX_KILLS:
        raise AirflowFailException(
            f"The process of this task was killed {len(kills)} times in a row without durable progress, so "
            f"it is not retried. {explain_kills(kills)}; then clear {task} and everything downstream"
        )
    if interruptions > MAX_INTERRUPTIONS:
        raise AirflowFailException(
            f"This task was interrupted {interruptions} times in a row without durable progress, so it is "
            "not retried. The logs of its attempts say why; once the cause is corrected, clear "
            f"{task} and everything downstream"
        )


@dataclass(frozen=True)
class Ending:
    """The end of an attempt that was not killed."""

    in_a_row: int
    """If this attempt had started, the number of consecutive attempts, including this one, that started with
    the same progress. Otherwise, the number of consecutive attempts that did not start."""
    had_started: bool
    """Whether the attempt had reached `start_attempt`."""


def mark_explained(context: Context) -> Ending | None:
    """Record that this attempt ends for a known reason.

    Returns None if that could not be recorded, or if a newer attempt has started.
    """
    attempt = context["ti"].try_number
    try:
        noted = load_record(context, _KEY) or {"attempt": 0, "first": attempt, "progress": [], "kills": []}
        if noted["attempt"] > attempt:  # the scheduler considered this attempt lost, and started a newer one
            return None
        had_started = noted["attempt"] == attempt
        first = noted["first"]
        if not had_started:
            first = noted["unstarted"] = noted.get("unstarted", attempt)
        store_record(context, _KEY, {**noted, "attempt": attempt, "explained": True})
    except AirflowRuntimeError as error:
        log.warning("Could not store why this attempt ends; it will count as killed: %s", error)
        return None
    return Ending(attempt - int(first) + 1, had_started)


def load_progress(context: Context) -> list[int]:
    """Return the most durable progress with which an attempt of the task has started; empty if none has."""
    return list((load_record(context, _KEY) or {}).get("progress", []))


def load_record(context: Context, key: str) -> dict[str, Any] | None:
    """Return the record that an earlier attempt of the task stored, if it had the same arguments."""
    stored = context["task_state_store"].get(key)
    if isinstance(stored, dict) and stored.get("fingerprint") == _hash_arguments(context):
        return stored
    return None


def store_record(context: Context, key: str, values: Mapping[str, Any]) -> None:
    """Store a record that later attempts of the task can load if they have the same arguments."""
    context["task_state_store"].set(key, {**values, "fingerprint": _hash_arguments(context)})


def _hash_arguments(context: Context) -> str:
    """Return a hash of the task's arguments and max_tries; clearing a task changes its max_tries."""
    task = context["task"]
    arguments = [getattr(task, name, None) for name in ("op_args", "op_kwargs")]
    # A value that is not JSON has not been rendered yet; its repr may differ between attempts.
    text = json.dumps(
        [arguments, context["ti"].max_tries], sort_keys=True, default=lambda value: type(value).__qualname__
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _store_start(
    context: Context, progress: Sequence[int], trace: Trace | None
) -> tuple[list[Trace | None], int]:
    """Record that the attempt starts; return the earlier kills and the number of earlier interruptions.

    All preceding attempts without progress count as interruptions, except those that left no record. For each
    that was killed, the list contains its trace, or None if it left none.
    """
    attempt, reached = context["ti"].try_number, tuple(progress)
    before = load_record(context, _KEY)
    kills: list[Trace | None] = []
    first = attempt
    if before and reached <= (highest := tuple(before["progress"])):
        reached = highest  # resuming from an older state, or repeating epochs, is not progress
        first = before["first"]
        if not before["explained"]:
            kills = [Trace(**kill) if kill else None for kill in before["kills"]]
            if before["attempt"] != attempt:  # equal when a deferred task resumes the same attempt
                kills.append(trace if trace and trace.attempt == before["attempt"] else None)
        first += max(attempt - before["attempt"] - 1, 0)  # attempts in between left no record
    noted: dict[str, Any] = {
        "attempt": attempt,
        "first": first,
        "progress": list(reached),
        "kills": [asdict(kill) if kill else None for kill in kills],
        "explained": False,
    }
    store_record(context, _KEY, noted)
    return kills, attempt - first
