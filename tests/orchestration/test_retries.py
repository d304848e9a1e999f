"""Which failures of a training run are retried, and how they are counted from one attempt to the next."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest
from airflow.sdk.definitions.retry_policy import RetryAction, RetryDecision
from airflow.sdk.exceptions import AirflowFailException, AirflowRuntimeError, AirflowTaskTimeout, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse
from sqlalchemy.exc import OperationalError as WrappedError

from include.attempt.preemption import Preempted
from include.deployment.retrying import BackendUnavailable
from include.orchestration.interruptions import MAX_INTERRUPTIONS, start_attempt
from include.orchestration.retries import DEFAULT_ARGS, ErrorCountPolicy
from include.s3.errors import StoreUnreachable, UploadGivenUp
from include.training.contract import MemoryTaken, NoGpuFree, ProcessKilled
from include.watchdog.traces import HANG, MEMORY, Trace

if TYPE_CHECKING:
    from airflow.sdk import Context

RETRIES = 50
FULL = OSError("No space left on device")


@dataclass
class Task:
    """One task of a run with all its attempts: its arguments and its store."""

    job: object
    max_tries: int = RETRIES
    attempt: int = 0
    stored: dict[str, Any] = field(default_factory=dict)

    def get(self, key: str, default: object = None) -> Any:
        return self.stored.get(key, default)

    def set(self, key: str, value: Any) -> None:
        self.stored[key] = json.loads(json.dumps(value))

    @property
    def context(self) -> Context:
        """The context of the current attempt."""
        task = SimpleNamespace(op_args=[self.job, {"source": "digits"}], op_kwargs={})
        ti = SimpleNamespace(try_number=self.attempt, max_tries=self.max_tries, task_id="train")
        return cast("Context", {"task": task, "task_state_store": self, "ti": ti})

    def fail(self, error: BaseException, policy: ErrorCountPolicy) -> tuple[RetryAction, str]:
        """Return the decision of the policy about `error` in the next attempt."""
        self.attempt += 1
        return self._decide(error, policy)

    def begin(self, progress: int | Sequence[int] = 0, trace: Trace | None = None) -> None:
        """Begin the next attempt, with this durable progress and the trace of the previous attempt."""
        self.attempt += 1
        start_attempt(self.context, (progress,) if isinstance(progress, int) else progress, trace)

    def end(self, error: BaseException) -> None:
        """End the current attempt with an error; an attempt without this call counts as killed."""
        self._decide(error, ErrorCountPolicy())

    def interrupt(self, error: BaseException, progress: int) -> RetryDecision:
        """Begin the next attempt with this progress, and end it with an error."""
        self.begin(progress)
        return ErrorCountPolicy().evaluate(error, self.attempt, self.max_tries, self.context)

    def _decide(self, error: BaseException, policy: ErrorCountPolicy) -> tuple[RetryAction, str]:
        decision = policy.evaluate(error, self.attempt, self.max_tries, self.context)
        return decision.action, decision.reason or ""


def pause(decision: RetryDecision) -> timedelta:
    assert decision.action is RetryAction.RETRY
    assert decision.retry_delay is not None
    return decision.retry_delay


@pytest.fixture
def task() -> Task:
    return Task({"job_id": "mine", "spec": {"epochs": 10}})


def test_the_second_error_ends_the_task_and_each_reason_counts_the_attempts_left(task: Task) -> None:
    assert task.fail(FULL, ErrorCountPolicy()) == (
        RetryAction.RETRY,
        "Error 1 of at most 2 (OSError: No space left on device). Attempts left after errors: 1.",
    )
    assert task.fail(FULL, ErrorCountPolicy()) == (
        RetryAction.FAIL,
        "Error 2 of at most 2 (OSError: No space left on device). No attempts are left.",
    )


def test_errors_with_durable_progress_in_between_never_end_a_task(task: Task) -> None:
    """A GPU that fails once a day must not end a training run that takes weeks."""
    for progress in range(10):
        assert task.interrupt(FULL, progress).action is RetryAction.RETRY


def test_an_error_that_occurs_in_the_same_place_again_ends_the_task(task: Task) -> None:
    actions = [task.interrupt(FULL, progress).action for progress in (0, 3, 3)]
    assert actions == [RetryAction.RETRY, RetryAction.RETRY, RetryAction.FAIL]


def test_preemptions_never_count_as_errors(task: Task) -> None:
    for attempt in range(1, 30):
        assert task.fail(Preempted(), ErrorCountPolicy()) == (
            RetryAction.RETRY,
            f"Preempted, attempt {attempt} of 51.",
        )
    assert "errors" not in task.stored
    assert task.fail(FULL, ErrorCountPolicy())[0] is RetryAction.RETRY


def test_a_preemption_is_retried_immediately_and_an_error_later() -> None:
    policy = ErrorCountPolicy()
    ti = SimpleNamespace(try_number=1, max_tries=RETRIES)
    context = cast("Context", {"task": None, "task_state_store": Task(None), "ti": ti})
    assert policy.evaluate(Preempted(), 1, RETRIES, context).retry_delay == timedelta(seconds=1)
    assert policy.evaluate(FULL, 1, RETRIES, context).retry_delay == timedelta(seconds=30)


@pytest.mark.parametrize("changed", [{"job": {"job_id": "mine", "spec": {"epochs": 20}}}, {"max_tries": 53}])
def test_a_changed_or_cleared_task_starts_counting_again(task: Task, changed: dict[str, Any]) -> None:
    task.fail(FULL, ErrorCountPolicy())
    for name, value in changed.items():
        setattr(task, name, value)
    assert task.fail(FULL, ErrorCountPolicy())[0] is RetryAction.RETRY
    assert task.fail(FULL, ErrorCountPolicy())[0] is RetryAction.FAIL


def test_unrendered_arguments_do_not_stop_the_counting() -> None:
    assert Task(object()).fail(FULL, ErrorCountPolicy())[0] is RetryAction.RETRY
    task = Task(object())
    task.fail(FULL, ErrorCountPolicy())
    task.job = object()
    assert task.fail(FULL, ErrorCountPolicy())[0] is RetryAction.FAIL


def test_a_long_error_fits_into_airflows_reason(task: Task) -> None:
    _, reason = task.fail(ValueError("too\nlong " * 1000), ErrorCountPolicy())
    assert len(reason) < 500
    assert reason.endswith("Attempts left after errors: 1.")


def airflow_error(status: int | None) -> AirflowRuntimeError:
    detail = {"status_code": status, "message": "x"}
    return AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail))


OUTAGES = {
    "S3": StoreUnreachable("S3 is away"),
    "an upload": UploadGivenUp("S3 is away"),
    "read-only": psycopg.errors.ReadOnlySqlTransaction("cannot execute UPDATE"),
    "idle": psycopg.errors.IdleInTransactionSessionTimeout("terminating connection"),
    "refused": psycopg.OperationalError("connection refused"),
    "SQLAlchemy": WrappedError("SELECT 1", {}, psycopg.OperationalError("connection refused")),
    "a server that hangs": AirflowTaskTimeout("Timeout"),
    "API server": airflow_error(None),
    "API server that fails": airflow_error(503),
    "backend": BackendUnavailable("HTTP 503"),
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_every_task_outlasts_an_outage_of_two_hours_with_pauses_of_five_minutes_at_most(
    task: Task, outage: str
) -> None:
    pauses = [pause(task.interrupt(OUTAGES[outage], progress=0)) for _ in range(DEFAULT_ARGS["retries"])]
    assert pauses[0] < timedelta(seconds=20)
    assert max(pauses) <= timedelta(minutes=5)
    assert sum(pauses, timedelta()) > timedelta(hours=2)


INTERRUPTIONS = [Preempted(), NoGpuFree("all are taken"), OUTAGES["S3"]]


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_only_interruptions_without_progress_lengthen_the_pauses_and_end_a_task(
    task: Task, interruption: BaseException
) -> None:
    first, *_, last = [pause(task.interrupt(interruption, progress=7)) for _ in range(MAX_INTERRUPTIONS)]
    assert timedelta(seconds=1) <= first <= timedelta(seconds=15)
    assert timedelta(minutes=1) <= last <= timedelta(minutes=5)
    pause(task.interrupt(interruption, progress=7))  # progress in this attempt counts for the next
    assert pause(task.interrupt(interruption, progress=8)) == first
    task.begin(progress=8)  # a kill, which also counts as an interruption
    for _ in range(MAX_INTERRUPTIONS - 1):
        pause(task.interrupt(interruption, progress=8))
    with pytest.raises(AirflowFailException, match="interrupted 51 times in a row without durable progress"):
        task.begin(progress=8)


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_interruptions_before_an_attempt_could_start_are_counted(
    task: Task, interruption: BaseException
) -> None:
    policy = ErrorCountPolicy()
    for _ in range(MAX_INTERRUPTIONS):
        assert task.fail(interruption, policy)[0] is RetryAction.RETRY
    action, reason = task.fail(interruption, policy)
    assert action is RetryAction.FAIL
    assert reason.endswith("The 50 attempts before it did not start either; no attempts are left.")


def test_an_attempt_that_started_is_not_counted_with_later_ones_that_did_not(task: Task) -> None:
    for _ in range(MAX_INTERRUPTIONS):
        task.interrupt(NoGpuFree("all are taken"), progress=0)
    task.interrupt(Preempted(), progress=0)  # this attempt may have trained for days
    assert task.fail(OUTAGES["refused"], ErrorCountPolicy())[0] is RetryAction.RETRY


def test_going_back_to_an_older_state_and_repeating_work_is_not_progress(task: Task) -> None:
    task.begin((10, 0))
    task.begin((9, 0))
    task.begin((10, 0))
    with pytest.raises(AirflowFailException, match="killed 3 times in a row"):
        task.begin((10, 0))


def test_attempts_that_airflow_could_not_start_are_neither_kills_nor_interruptions(task: Task) -> None:
    task.begin()
    task.attempt += MAX_INTERRUPTIONS  # the API server was unavailable
    task.begin()
    task.attempt += 2
    task.begin()
    with pytest.raises(AirflowFailException, match="killed 3 times in a row"):
        task.begin()


def test_an_error_that_cannot_be_counted_is_retried_after_the_usual_pause(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise airflow_error(503)

    monkeypatch.setattr(task, "get", away)
    assert pause(ErrorCountPolicy().evaluate(FULL, 1, RETRIES, task.context)) == timedelta(seconds=30)


def test_a_refusal_by_airflow_is_not_an_outage(task: Task) -> None:
    _, reason = task.fail(airflow_error(404), ErrorCountPolicy())
    assert reason.startswith("Error 1 of at most 2")


def test_no_attempt_follows_three_kills_in_a_row_without_durable_progress(task: Task) -> None:
    for _ in range(3):
        task.begin(progress=4)
    with pytest.raises(AirflowFailException, match="killed 3 times in a row without durable progress") as end:
        task.begin(progress=4)
    assert "too little memory" in str(end.value)
    assert "clear train and everything downstream" in str(end.value)


def test_an_attempt_that_lost_a_process_counts_as_a_kill_and_not_as_an_error(
    task: Task,
) -> None:
    for number in (1, 2, 3):
        killed = "Rank 1 of the training run was killed by SIGKILL"
        task.begin(2, Trace(number - 1, MEMORY, killed, 3, number))
        action, reason = task._decide(
            ProcessKilled("Rank 1 was killed by SIGKILL"), ErrorCountPolicy(errors=1)
        )
        assert (action, reason) == (
            RetryAction.RETRY,
            f"ProcessKilled: Rank 1 was killed by SIGKILL; attempt {number} of {RETRIES + 1}.",
        )
    with pytest.raises(AirflowFailException, match=r"Most likely the machine has too little memory \(3 of 3"):
        task.begin(2, Trace(3, MEMORY, "Rank 1 of the training run was killed by SIGKILL", 3, 3))


def test_kills_with_durable_progress_in_between_never_end_a_task(task: Task) -> None:
    for progress in range(20):
        task.begin(progress)
        task.begin(progress)


def test_progress_can_be_an_epoch_and_a_batch(task: Task) -> None:
    for position in [(0, 0), (0, 5), (0, 40), (1, 0), (1, 5)]:
        task.begin(position)
        task.begin(position)
    task.begin((1, 5))
    with pytest.raises(AirflowFailException):
        task.begin((1, 5))


def hang(attempt: int) -> Trace:
    return Trace(attempt, HANG, "No batch has finished for 300 s", 3, 7)


def test_three_hangs_in_a_row_end_the_task_and_name_the_hang(task: Task) -> None:
    task.begin()
    task.begin(trace=hang(1))
    task.begin(trace=hang(2))
    message = r"Most likely the process hangs \(3 of 3 times\).*; then clear t"
    with pytest.raises(AirflowFailException, match=message):
        task.begin(trace=hang(3))


def test_a_trace_of_an_older_attempt_on_this_machine_is_counted_once(
    task: Task,
) -> None:
    task.begin()
    for _ in range(2):
        task.begin(trace=hang(1))
    with pytest.raises(AirflowFailException, match=r"the process hangs \(1 of 3 times\)"):
        task.begin(trace=hang(1))


@pytest.mark.parametrize("explained", [Preempted(), StoreUnreachable("S3 is away"), FULL])
def test_an_attempt_that_ended_with_an_error_was_not_killed(task: Task, explained: BaseException) -> None:
    for _ in range(20):
        task.begin()
        task.end(explained)
    task.begin()
    task.begin()
    task.begin()
    with pytest.raises(AirflowFailException):
        task.begin()


def test_a_cleared_task_may_again_be_killed_three_times(task: Task) -> None:
    for _ in range(3):
        task.begin()
    task.max_tries += RETRIES + 1
    for _ in range(3):
        task.begin()
    with pytest.raises(AirflowFailException):
        task.begin()


def test_a_late_error_of_an_attempt_does_not_count_for_the_next_one(task: Task) -> None:
    task.begin()
    late = task.context
    task.begin()
    ErrorCountPolicy().evaluate(Preempted(), 1, RETRIES, late)  # the scheduler has given up on this attempt
    task.begin()
    with pytest.raises(AirflowFailException):
        task.begin()


def test_waiting_for_a_gpu_is_not_an_error(task: Task) -> None:
    for error in [NoGpuFree("No GPU is free"), MemoryTaken("cuda:0 ran out of memory")] * 3:
        action, reason = task.fail(error, ErrorCountPolicy())
        assert action is RetryAction.RETRY
        assert str(error) in reason
    _, reason = task.fail(ValueError("wrong"), ErrorCountPolicy())
    assert reason.startswith("Error 1 of at most 2")


def test_kills_that_are_not_consecutive_never_end_a_task(task: Task) -> None:
    for _ in range(20):
        task.begin()
        task.begin()
        task.end(StoreUnreachable("S3 is away"))
