"""Have `train_yolo` train a challenger, and wait for it without holding a worker."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from include.deployment.connections import open_training_db
from include.jobs.job import TRAINING_DAG, JobStatus
from include.jobs.repository import JobRepository
from include.orchestration.runs import is_running
from include.orchestration.xcoms import parse_result
from include.tasks.retrain_payloads import Challenge, Challenger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow.sdk import Context

    from include.jobs.job import TrainingJob


POLL_SECONDS = 5.0

SETTLING_SECONDS = 60.0
"""How long a row may say running after its run: the Dag processor writes what a killed task could not."""

log = logging.getLogger(__name__)


class TriggerTraining(TriggerDagRunOperator):
    """Start the challenger's training, or let it be where it goes on or has been completed.

    A run of the same id that ended otherwise is cleared: it goes on from its last durable state. So a retry,
    and a cleared task, find the job that is there.
    """

    template_fields = ("challenge",)

    def __init__(self, *, challenge: Challenge, **options: Any) -> None:
        super().__init__(trigger_dag_id=TRAINING_DAG, reset_dag_run=True, logical_date=None, **options)
        self.challenge = challenge

    def execute(self, context: Context) -> None:
        """Start what has to be started. Raises DagRunTriggerException, which tells Airflow to do it."""
        challenge = parse_result(Challenge, self.challenge, "challenge_champion")
        job = _load_job(challenge.job_id)
        if (job is not None and job.status == JobStatus.COMPLETED) or is_running(
            TRAINING_DAG, challenge.run_id
        ):
            log.info(
                "Job %s is there already: run %s of %s.", challenge.job_id, challenge.run_id, TRAINING_DAG
            )
            return
        self.trigger_run_id, self.conf = challenge.run_id, challenge.conf
        self.note = f"The challenger of {context['dag'].dag_id}, run {context['run_id']}"
        super().execute(context)


class WaitForTraining(BaseOperator):
    """Wait, deferred, until the challenger is trained, and hand on its best.pt."""

    template_fields = ("challenge",)

    def __init__(self, *, challenge: Challenge, **options: Any) -> None:
        super().__init__(**options)
        self.challenge = challenge

    @property
    def challenger(self) -> Challenger:
        """What the task returns, for the tasks after it; in a Dag this is Airflow's reference to it."""
        return cast("Challenger", self.output)

    def execute(self, context: Context) -> None:
        """Hand over to the triggerer."""
        challenge = parse_result(Challenge, self.challenge, "challenge_champion")
        deadline = time.time() + challenge.timeout_hours * 3600
        self.defer(trigger=JobEnded(challenge.job_id, challenge.run_id, deadline), method_name="conclude")

    def conclude(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Say what became of the training, as the row has it."""
        challenge = parse_result(Challenge, self.challenge, "challenge_champion")
        found = find_challenger(challenge, _load_job(challenge.job_id), timed_out=bool(event["timed_out"]))
        return found.model_dump(mode="json")


class JobEnded(BaseTrigger):
    """Fires when the job's row tells how its training has ended, or at the deadline (seconds since 1970).

    The row decides and not the run's state: a run may fail after its row was completed, and a run that
    succeeds may have been stopped. Only for a row that is not final the run is asked whether somebody still
    works on it. Whatever cannot be asked for a while, database or API server, is asked again.
    """

    def __init__(self, job_id: str, run_id: str, deadline: float, pause: float = POLL_SECONDS) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_id, self.run_id, self.deadline, self.pause = job_id, run_id, deadline, pause

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what another triggerer goes on with."""
        values = {name: getattr(self, name) for name in ("job_id", "run_id", "deadline", "pause")}
        return f"{type(self).__module__}.{type(self).__qualname__}", values

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look again and again; each look is in a thread of its own, for it may hang for seconds."""
        abandoned_since: float | None = None
        while True:
            try:
                ended, alive = await asyncio.to_thread(poll_job, self.job_id, self.run_id)
            except Exception as error:
                log.warning("Job %s cannot be asked for now: %s", self.job_id, str(error).strip())
            else:
                abandoned_since = None if alive else abandoned_since or time.monotonic()
                if ended or (abandoned_since and time.monotonic() - abandoned_since >= SETTLING_SECONDS):
                    yield TriggerEvent({"timed_out": False})  # type: ignore[no-untyped-call]
                    return
            if time.time() >= self.deadline:
                yield TriggerEvent({"timed_out": True})  # type: ignore[no-untyped-call]
                return
            await asyncio.sleep(self.pause)


def poll_job(job_id: str, run_id: str) -> tuple[bool, bool]:
    """Whether the job has ended, and whether its run of `train_yolo` still works on it.

    A row that says failed or stopped is final only when the run is over: it may have been cleared since. A
    run that is over and has no row was refused before it had one.
    """
    job = _load_job(job_id)
    if job is not None and job.status == JobStatus.COMPLETED:
        return True, False
    alive = is_running(TRAINING_DAG, run_id)
    return (job is None or job.has_ended) and not alive, alive


def find_challenger(challenge: Challenge, job: TrainingJob | None, *, timed_out: bool) -> Challenger:
    """Hand on the best.pt of a completed job.

    Raises AirflowSkipException for one that somebody has stopped, and AirflowFailException for any other.
    """
    status = job.status if job else None
    best = job.checkpoint("best") if job else None
    if status == JobStatus.COMPLETED and best and best.sha256:
        return Challenger(job_id=challenge.job_id, path=best.path, sha256=best.sha256)
    if status == JobStatus.STOPPED:
        raise AirflowSkipException(f"Job {challenge.job_id} was stopped, so there is nothing to compare.")
    again = "clear trigger_training with all after it, and it goes on from its last durable state"
    if job and status == JobStatus.FAILED:
        raise AirflowFailException(
            f"Job {challenge.job_id} failed ({job.error}). Remove the cause, then {again}."
        )
    if timed_out:
        raise AirflowFailException(
            f"Job {challenge.job_id} has not ended within {challenge.timeout_hours:g} hours (the plan's "
            "timeout_hours) and goes on; to wait for it again, clear wait_for_training with all after it."
        )
    said = f"its row still says {status}" if job else "it has no row in training_jobs"
    raise AirflowFailException(
        f"Run {challenge.run_id} of {TRAINING_DAG} is over, but job {challenge.job_id} has not ended: "
        f"{said}. See the log of that run's failed task, remove the cause, then {again}."
    )


def _load_job(job_id: str) -> TrainingJob | None:
    with open_training_db() as connection:
        return JobRepository(connection).get(job_id)
