"""Decides about retries: many after outages, preemptions and waits for a GPU, few after errors."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import RetryDecision, RetryPolicy
from airflow.sdk.exceptions import AirflowRuntimeError

from include.attempt.preemption import Preempted
from include.deployment.retrying import is_transient
from include.orchestration.interruptions import (
    MAX_INTERRUPTIONS,
    load_progress,
    load_record,
    mark_explained,
    stop_after_repeated_kills,
    store_record,
)
from include.training.contract import MachineUnusable, ProcessKilled

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.orchestration.interruptions import Ending


@dataclass(frozen=True)
class _Pause:
    """A pause that grows with each consecutive attempt."""

    first: timedelta
    """Pause after the first attempt."""
    longest: timedelta
    """Limit on the growth."""
    growth: float
    """Factor by which each pause is longer than the one before."""

    def compute(self, attempt: int) -> timedelta:
        """Return the pause after an attempt, given its number among consecutive attempts, counted from 1."""
        steps = min(attempt - 1, MAX_INTERRUPTIONS)
        return min(self.first * self.growth**steps, self.longest)


_AFTER_ERROR = timedelta(seconds=30)
"""Pause before the next attempt after an error."""

_LONGEST_DELAY = timedelta(minutes=5)
_OUTAGE = _Pause(timedelta(seconds=15), _LONGEST_DELAY, 1.1)
_PREEMPTION = _Pause(timedelta(seconds=1), timedelta(minutes=1), 1.2)
"""50 of these pauses add up to more than half an hour, which outlasts a series of preemptions."""

_LONGEST = 300
"""Maximum length of an error message in a reason, in characters: Airflow truncates reasons at 500."""

_KEY = "errors"
"""Key in task_state_store, which has separate values for each task of each run."""


@dataclass(frozen=True)
class ErrorCountPolicy(RetryPolicy):
    """Fails a task after a number of errors.

    interruptions.py limits the retries after preemptions, outages and waits for a GPU. The pauses before
    these retries grow with the number of attempts without durable progress. Airflow consults no policy after
    a SIGKILL, or after an AirflowFailException, which is final. An attempt counts as killed
    (interruptions.py) if any of its processes was killed.
    """

    errors: int = 2
    """Number of errors at which the task fails. The count restarts if an attempt starts with more durable
    progress than the one with the last error, if the task has different arguments, or if it was cleared."""

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Decide whether to retry after `exception`."""
        attempt = f"attempt {try_number} of {max_tries + 1}."
        if isinstance(exception, ProcessKilled):
            return RetryDecision.retry(_AFTER_ERROR, reason=f"{_build_sentence(exception)}; {attempt}")
        assert context is not None  # noqa: S101 - Airflow always passes it, although its type allows for None
        ending = mark_explained(context)
        if isinstance(exception, Preempted):
            return _decide_after_interruption(_PREEMPTION, ending, try_number, f"Preempted, {attempt}")
        if isinstance(exception, MachineUnusable):
            return _decide_after_interruption(
                _OUTAGE, ending, try_number, f"{_build_sentence(exception)}; {attempt}"
            )
        if is_transient(exception):
            reason = f"A server is unavailable ({_build_sentence(exception)}), {attempt}"
            return _decide_after_interruption(_OUTAGE, ending, try_number, reason)
        try:
            count = self._count(exception, context)
        except AirflowRuntimeError as error:
            return RetryDecision.retry(
                _AFTER_ERROR,
                reason=f"{_build_sentence(exception)}; the error could not be counted ({error}), {attempt}",
            )
        what = f"Error {count} of at most {self.errors} ({_build_sentence(exception)})."
        if count >= self.errors:
            return RetryDecision.fail(reason=f"{what} No attempts are left.")
        return RetryDecision.retry(
            _AFTER_ERROR, reason=f"{what} Attempts left after errors: {self.errors - count}."
        )

    def _count(self, exception: BaseException, context: Context) -> int:
        """Count the error; return its number, which starts at 1 again after durable progress."""
        before, progress = load_record(context, _KEY) or {}, load_progress(context)
        is_progress = progress > before.get("progress", progress)
        count = 1 if is_progress else before.get("count", 0) + 1
        store_record(
            context, _KEY, {"count": count, "progress": progress, "last": _build_sentence(exception)}
        )
        return count


def _decide_after_interruption(
    pause: _Pause, ending: Ending | None, try_number: int, reason: str
) -> RetryDecision:
    """Retry after a pause; fail if too many attempts in a row ended before `start_attempt` counted them."""
    in_a_row = ending.in_a_row if ending else try_number
    if ending and not ending.had_started and in_a_row > MAX_INTERRUPTIONS:
        return RetryDecision.fail(
            reason=f"{reason} The {in_a_row - 1} attempts before it did not start either; "
            "no attempts are left."
        )
    return RetryDecision.retry(pause.compute(in_a_row), reason=reason)


def _build_sentence(exception: BaseException) -> str:
    text = " ".join(str(exception).split())[:_LONGEST]
    return f"{type(exception).__name__}: {text}" if text else type(exception).__name__


DEFAULT_ARGS: dict[str, Any] = {
    "owner": "training",
    "retries": MAX_INTERRUPTIONS,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": True,
    "max_retry_delay": _LONGEST_DELAY,
    "retry_policy": ErrorCountPolicy(errors=4),
    "pre_execute": stop_after_repeated_kills,
}
"""Defaults of every task: outages are retried for two hours, and the fourth error fails the task."""
