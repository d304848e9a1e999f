"""Decides about retries: always after outages, preemptions and occupied GPUs, rarely after errors."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import RetryDecision, RetryPolicy

from include.attempt.preemption import Preempted
from include.deployment.retrying import is_transient
from include.orchestration.interruptions import fingerprint_of, mark_explained, stop_after_repeated_kills
from include.training.contract import MachineUnusable, ProcessKilled

if TYPE_CHECKING:
    from airflow.sdk import Context

OUTAGES = 50
"""Number of retries during an outage. With the growing delay below they last two hours."""

_FIRST_DELAY = timedelta(seconds=15)
_LONGEST_DELAY = timedelta(minutes=5)
_GROWTH = 1.1

_LONGEST = 300
"""Maximum length of an error in a reason, in characters: Airflow truncates reasons at 500."""

_KEY = "errors"
"""In task_state_store, whose values are kept for each task of each run."""


@dataclass(frozen=True)
class CountErrors(RetryPolicy):
    """Fails a task at its error number `errors`.

    Preemptions, outages and waiting for a GPU are limited only by the task's `retries`. Airflow asks no
    policy after a SIGKILL, nor for AirflowFailException, which is final. An attempt that lost one of its
    processes to a kill counts like one that was killed itself (interruptions.py). The count restarts when the
    task has different arguments or was cleared.
    """

    errors: int = 2
    delay: timedelta = timedelta(seconds=30)

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Decide whether to retry after `exception`."""
        attempt = f"attempt {try_number} of {max_tries + 1}."
        if isinstance(exception, ProcessKilled):
            return RetryDecision.retry(self.delay, reason=f"{_sentence(exception)}; {attempt}")
        if context is not None:
            mark_explained(context)
        if isinstance(exception, Preempted):
            return RetryDecision.retry(reason=f"Preempted, {attempt}")
        if isinstance(exception, MachineUnusable):
            return RetryDecision.retry(_delay(try_number), reason=f"{_sentence(exception)}; {attempt}")
        if is_transient(exception):
            return RetryDecision.retry(
                _delay(try_number), reason=f"A server is unavailable ({_sentence(exception)}), {attempt}"
            )
        if context is None:
            return RetryDecision.default()
        count = self._count(exception, context)
        what = f"Error {count} of at most {self.errors} ({_sentence(exception)})."
        if count >= self.errors:
            return RetryDecision.fail(reason=f"{what} No attempt is left.")
        return RetryDecision.retry(
            self.delay, reason=f"{what} Attempts left after errors: {self.errors - count}."
        )

    def serialize(self) -> dict[str, Any]:
        """Return the fields for Airflow, which in 3.3 stores only that there is a policy."""
        return {"errors": self.errors, "delay": self.delay.total_seconds()}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> CountErrors:
        """Return the policy that `serialize` has dumped."""
        return cls(errors=data["errors"], delay=timedelta(seconds=data["delay"]))

    def _count(self, exception: BaseException, context: Context) -> int:
        """Count the error; return its number since the arguments last changed, from 1."""
        store = context["task_state_store"]
        fingerprint = fingerprint_of(context)
        stored = store.get(_KEY)
        counted = stored if isinstance(stored, dict) and stored.get("fingerprint") == fingerprint else {}
        before = counted.get("count")
        count = (before if isinstance(before, int) else 0) + 1
        store.set(_KEY, {"fingerprint": fingerprint, "count": count, "last": _sentence(exception)})
        return count


def _delay(try_number: int) -> timedelta:
    """Return a pause that grows from 15 seconds to 5 minutes."""
    return min(_FIRST_DELAY * _GROWTH**try_number, _LONGEST_DELAY)


def _sentence(exception: BaseException) -> str:
    text = " ".join(str(exception).split())[:_LONGEST]
    return f"{type(exception).__name__}: {text}" if text else type(exception).__name__


DEFAULT_ARGS: dict[str, Any] = {
    "owner": "training",
    "retries": OUTAGES,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": True,
    "max_retry_delay": _LONGEST_DELAY,
    "retry_policy": CountErrors(errors=4),
    "pre_execute": stop_after_repeated_kills,
}
"""Defaults of every task: outages are retried for two hours, and the fourth error fails the task."""
