"""Which failures of a training are tried again, and what is remembered of them between attempts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from airflow.sdk.definitions.retry_policy import RetryAction

from include.pipeline.preemption import Preempted
from include.pipeline.retries import CountErrors

if TYPE_CHECKING:
    from airflow.sdk import Context

RETRIES = 50
FULL = OSError("No space left on device")


@dataclass
class Task:
    """One task of a run, over all of its attempts: what it is called with, and its store."""

    job: object
    max_tries: int = RETRIES
    attempt: int = 0
    stored: dict[str, Any] = field(default_factory=dict)

    def get(self, key: str, default: object = None) -> Any:
        return self.stored.get(key, default)

    def set(self, key: str, value: Any) -> None:
        self.stored[key] = value

    def fail(self, error: BaseException, policy: CountErrors) -> tuple[RetryAction, str]:
        """What the policy says to `error` in the next attempt."""
        self.attempt += 1
        task = SimpleNamespace(op_args=[self.job, {"source": "digits"}], op_kwargs={})
        context = cast("Context", {"task": task, "task_state_store": self})
        decision = policy.evaluate(error, self.attempt, self.max_tries, context)
        return decision.action, decision.reason or ""


@pytest.fixture
def task() -> Task:
    return Task({"job_id": "mine", "spec": {"epochs": 10}})


def test_the_second_error_ends_the_task_and_each_reason_says_what_is_left(task: Task) -> None:
    assert task.fail(FULL, CountErrors()) == (
        RetryAction.RETRY,
        "Error 1 of at most 2 (OSError: No space left on device). Attempts left after errors: 1.",
    )
    assert task.fail(FULL, CountErrors()) == (
        RetryAction.FAIL,
        "Error 2 of at most 2 (OSError: No space left on device). No attempt is left.",
    )


def test_preemptions_are_not_errors_however_many_there_are(task: Task) -> None:
    for attempt in range(1, 30):
        assert task.fail(Preempted(), CountErrors()) == (
            RetryAction.RETRY,
            f"Preempted, attempt {attempt} of 51.",
        )
    assert task.stored == {}
    assert task.fail(FULL, CountErrors())[0] is RetryAction.RETRY


def test_a_preemption_goes_on_after_the_delay_of_the_task_and_an_error_later() -> None:
    policy = CountErrors(delay=timedelta(minutes=1))
    context = cast("Context", {"task": None, "task_state_store": Task(None)})
    assert policy.evaluate(Preempted(), 1, RETRIES, context).retry_delay is None
    assert policy.evaluate(FULL, 1, RETRIES, context).retry_delay == timedelta(minutes=1)


@pytest.mark.parametrize("changed", [{"job": {"job_id": "mine", "spec": {"epochs": 20}}}, {"max_tries": 53}])
def test_a_changed_or_cleared_task_begins_to_count_anew(task: Task, changed: dict[str, Any]) -> None:
    task.fail(FULL, CountErrors())
    for name, value in changed.items():
        setattr(task, name, value)
    assert task.fail(FULL, CountErrors())[0] is RetryAction.RETRY
    assert task.fail(FULL, CountErrors())[0] is RetryAction.FAIL


def test_arguments_that_were_not_rendered_yet_do_not_stop_the_counting() -> None:
    assert Task(object()).fail(FULL, CountErrors())[0] is RetryAction.RETRY
    task = Task(object())
    task.fail(FULL, CountErrors())
    task.job = object()
    assert task.fail(FULL, CountErrors())[0] is RetryAction.FAIL


def test_a_long_error_fits_into_airflows_reason(task: Task) -> None:
    _, reason = task.fail(ValueError("too\nlong " * 1000), CountErrors())
    assert len(reason) < 500
    assert reason.endswith("Attempts left after errors: 1.")


def test_a_policy_survives_its_own_serialization() -> None:
    policy = CountErrors(errors=3, delay=timedelta(seconds=7))
    assert CountErrors.deserialize(policy.serialize()) == policy
