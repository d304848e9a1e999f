"""When a training that failed is tried again: preemptions always, errors once, hopeless ones never."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import RetryDecision, RetryPolicy

from include.pipeline.patience import may_pass
from include.pipeline.preemption import Preempted

if TYPE_CHECKING:
    from airflow.sdk import Context

_LONGEST = 300
"""Characters of an error that are kept: Airflow cuts reasons at 500."""

_KEY = "errors"
"""In task_state_store, whose values are kept for each task of each run."""


@dataclass(frozen=True)
class CountErrors(RetryPolicy):
    """Ends a task at its error number `errors`; the task's `retries` alone bound preemptions and outages.

    Airflow asks no policy after a SIGKILL, nor for AirflowFailException, which is final. The count begins
    anew when the task was called with other arguments or was cleared by somebody.
    """

    errors: int = 2
    delay: timedelta = timedelta(seconds=30)

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Decide what follows from `exception`."""
        if isinstance(exception, Preempted):
            return RetryDecision.retry(reason=f"Preempted, attempt {try_number} of {max_tries + 1}.")
        if may_pass(exception):
            return RetryDecision.retry(
                self.delay, reason=f"A server is away, attempt {try_number} of {max_tries + 1}."
            )
        if context is None:
            return RetryDecision.default()
        count = self._count(exception, max_tries, context)
        what = f"Error {count} of at most {self.errors} ({_sentence(exception)})."
        if count >= self.errors:
            return RetryDecision.fail(reason=f"{what} No attempt is left.")
        return RetryDecision.retry(
            self.delay, reason=f"{what} Attempts left after errors: {self.errors - count}."
        )

    def serialize(self) -> dict[str, Any]:
        """For Airflow, which in 3.3 keeps only that there is a policy."""
        return {"errors": self.errors, "delay": self.delay.total_seconds()}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> CountErrors:
        """The reverse of `serialize`."""
        return cls(errors=data["errors"], delay=timedelta(seconds=data["delay"]))

    def _count(self, exception: BaseException, max_tries: int, context: Context) -> int:
        """Which error of this configuration it is, counting from 1."""
        store = context["task_state_store"]
        fingerprint = _fingerprint(context, max_tries)
        stored = store.get(_KEY)
        counted = stored if isinstance(stored, dict) and stored.get("fingerprint") == fingerprint else {}
        before = counted.get("count")
        count = (before if isinstance(before, int) else 0) + 1
        store.set(_KEY, {"fingerprint": fingerprint, "count": count, "last": _sentence(exception)})
        return count


def _fingerprint(context: Context, max_tries: int) -> str:
    """What the task was called with. Clearing changes max_tries: somebody wants it to be tried again."""
    task = context["task"]
    arguments = [getattr(task, name, None) for name in ("op_args", "op_kwargs")]
    # A value that is no JSON was not rendered yet; its repr may differ from attempt to attempt.
    text = json.dumps([arguments, max_tries], sort_keys=True, default=lambda value: type(value).__qualname__)
    return hashlib.sha256(text.encode()).hexdigest()


def _sentence(exception: BaseException) -> str:
    text = " ".join(str(exception).split())[:_LONGEST]
    return f"{type(exception).__name__}: {text}" if text else type(exception).__name__
