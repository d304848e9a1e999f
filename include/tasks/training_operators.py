"""Operators that trigger other Dags, or wait for a training run or a person without occupying a worker."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from include.deployment.connections import open_training_db
from include.jobs.job import TRAINING_DAG, JobStatus
from include.jobs.repository import JobRepository
from include.orchestration.runs import find_conf, is_running
from include.orchestration.typed_task import parse_result
from include.registry.request import REGISTER_DAG
from include.tasks.retrain_payloads import Approval, Challenge, Challenger, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow.sdk import Context

    from include.jobs.job import TrainingJob


POLL_SECONDS = 5.0

SETTLING_SECONDS = 60.0
"""How long a row may stay active after its run was killed, until the Dag processor records the failure."""

PROMOTE, REFUSE = "Promote", "Refuse"

log = logging.getLogger(__name__)


class TriggerTrainingOperator(TriggerDagRunOperator):
    """Starts the challenger's training unless it is already running or completed.

    If the challenge's run has ended without completing the job, and no other run continues the job, the run
    is cleared. It then resumes from the job's last durable state. So a retry of this task continues the
    existing job.
    """

    template_fields = ("challenge",)

    def __init__(self, *, challenge: Challenge, **options: Any) -> None:
        super().__init__(trigger_dag_id=TRAINING_DAG, reset_dag_run=True, logical_date=None, **options)
        self.challenge = challenge

    def execute(self, context: Context) -> None:
        """Start the run if necessary. Raises DagRunTriggerException: Airflow then triggers the run."""
        challenge = parse_result(Challenge, self.challenge, "challenge_champion")
        job = _load_job(challenge.job_id)
        if (job is not None and job.status == JobStatus.COMPLETED) or _is_trained(job, challenge.run_id):
            run_id = job.run_id if job else challenge.run_id
            log.info("Job %s already exists: run %s of %s.", challenge.job_id, run_id, TRAINING_DAG)
            return
        if job is None and find_conf(TRAINING_DAG, challenge.run_id) not in (None, challenge.conf):
            # Airflow would clear that run without changing its conf.
            raise AirflowFailException(
                f"Run {challenge.run_id} of {TRAINING_DAG} was refused with other parameters: the plan, its "
                "data or the champion have changed since then. Trigger a new run of this Dag"
            )
        self.trigger_run_id, self.conf = challenge.run_id, challenge.conf
        self.note = f"Challenger of {context['dag'].dag_id}, run {context['run_id']}"
        super().execute(context)


class TriggerRegistrationOperator(TriggerDagRunOperator):
    """Starts a run of `register_dataset`, or is skipped if a run with that id exists.

    Its arguments come from users, so they are not rendered as templates.
    """

    template_fields = ()

    def __init__(self, **options: Any) -> None:
        super().__init__(
            trigger_dag_id=REGISTER_DAG, skip_when_already_exists=True, logical_date=None, **options
        )


class WaitForTrainingOperator(BaseOperator):
    """Waits, deferred, until the challenger is trained, and returns its best.pt."""

    template_fields = ("challenge",)

    def __init__(self, *, challenge: Challenge, **options: Any) -> None:
        super().__init__(**options)
        self.challenge = challenge

    @property
    def challenger(self) -> Challenger:
        """The result of the task; in a Dag, Airflow's reference to it."""
        return cast("Challenger", self.output)

    def execute(self, context: Context) -> None:
        """Defer to the triggerer."""
        challenge = parse_result(Challenge, self.challenge, "challenge_champion")
        deadline = time.time() + challenge.timeout_hours * 3600
        self.defer(trigger=JobEnded(challenge.job_id, challenge.run_id, deadline), method_name="conclude")

    def conclude(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Return the challenger, as recorded in the job's row."""
        challenge = parse_result(Challenge, self.challenge, "challenge_champion")
        found = find_challenger(challenge, _load_job(challenge.job_id), timed_out=bool(event["timed_out"]))
        return found.model_dump(mode="json")


class ApprovalOperator(HITLOperator):
    """Asks a person to approve a challenger, without occupying a worker.

    It asks only if the gate has passed and the plan requires an approval.
    """

    template_fields = ("subject", "body", "verdict")

    def __init__(self, *, verdict: Verdict, **options: Any) -> None:
        super().__init__(subject="Promote the challenger?", options=[PROMOTE, REFUSE], **options)
        self.verdict = verdict

    @property
    def approval(self) -> Approval | None:
        """The result of the task; in a Dag, Airflow's reference to it."""
        return cast("Approval | None", self.output)

    def execute(self, context: Context) -> None:
        """Ask, if the gate has passed and the plan requires an approval."""
        verdict = parse_result(Verdict, self.verdict, "judge")
        if not (verdict.passed and verdict.ask):
            return
        production = f"version {verdict.champion_version}" if verdict.champion_version else "nothing"
        self.subject = (
            f"Promote version {verdict.version} of model {verdict.name}? In production: {production}."
        )
        self.body = f"The gate has passed: {verdict.reason}."
        super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Return the answer and the person who gave it."""
        answer = super().execute_complete(context, event)
        who = answer["responded_by_user"]
        return Approval(
            approved=answer["chosen_options"] == [PROMOTE], by=who["name"] if who else None
        ).model_dump(mode="json")


class JobEnded(BaseTrigger):
    """Fires when the job's row says how its training ended, or at `deadline`, in seconds since 1970.

    The row decides, not the state of the run: a run may fail after its row was completed, and a run succeeds
    even if its job was stopped. Unless the row is completed, the run must also have ended. If the database or
    the API server is unavailable, the trigger asks again later.
    """

    def __init__(self, job_id: str, run_id: str, deadline: float, pause: float = POLL_SECONDS) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_id, self.run_id, self.deadline, self.pause = job_id, run_id, deadline, pause

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the path of the class, and the arguments with which another triggerer continues."""
        values = {name: getattr(self, name) for name in ("job_id", "run_id", "deadline", "pause")}
        return f"{type(self).__module__}.{type(self).__qualname__}", values

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event, once the job has ended or the deadline has passed.

        Polls in a worker thread, since a poll may block for seconds.
        """
        abandoned_since: float | None = None
        while True:
            try:
                ended, alive = await asyncio.to_thread(poll_job, self.job_id, self.run_id)
            except Exception as error:
                log.warning("Job %s: status currently unavailable: %s", self.job_id, str(error).strip())
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
    """Return whether the job has ended, and whether a run of `train_yolo` that trains it is still active.

    The status failed or stopped is final only if the run has ended: a cleared run may still change it. If a
    run has ended and there is no row, the run was refused before it could claim the job.
    """
    job = _load_job(job_id)
    if job is not None and job.status == JobStatus.COMPLETED:
        return True, False
    alive = _is_trained(job, run_id)
    return (job is None or job.has_ended) and not alive, alive


def find_challenger(challenge: Challenge, job: TrainingJob | None, *, timed_out: bool) -> Challenger:
    """Return the best.pt of a completed job.

    Raises AirflowSkipException if the job was stopped, and AirflowFailException if it is not completed for
    another reason.
    """
    status = job.status if job else None
    best = job.get_checkpoint("best") if job else None
    if status == JobStatus.COMPLETED and best and best.sha256:
        return Challenger(job_id=challenge.job_id, path=best.path, sha256=best.sha256)
    if status == JobStatus.STOPPED:
        raise AirflowSkipException(f"Job {challenge.job_id} was stopped, so there is nothing to compare.")
    remedy = "clear trigger_training with its downstream tasks to resume the job from its last durable state"
    if job and status == JobStatus.FAILED:
        raise AirflowFailException(
            f"Job {challenge.job_id} failed ({job.error}). Fix the cause, then {remedy}."
        )
    if timed_out:
        raise AirflowFailException(
            f"Job {challenge.job_id} has not ended within {challenge.timeout_hours:g} hours (the plan's "
            "timeout_hours), and continues; clear wait_for_training with its downstream tasks to wait "
            "again."
        )
    detail = f"its row still says {status}" if job else "it has no row in training_jobs"
    raise AirflowFailException(
        f"Run {challenge.run_id} of {TRAINING_DAG} has ended, but job {challenge.job_id} has not: "
        f"{detail}. See the log of that run's failed task, fix the cause, then {remedy}."
    )


def _is_trained(job: TrainingJob | None, run_id: str) -> bool:
    """Return whether the run, or the one that has continued the job since then, is queued or running."""
    runs = {run_id} | ({job.run_id} if job and job.run_id and job.dag_id == TRAINING_DAG else set())
    return any(is_running(TRAINING_DAG, each) for each in sorted(runs))


def _load_job(job_id: str) -> TrainingJob | None:
    with open_training_db() as connection:
        return JobRepository(connection).get(job_id)
