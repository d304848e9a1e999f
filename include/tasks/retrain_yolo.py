"""The work of `retrain_yolo`: each function opens connections, does its part, and closes them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from include.claim.claimant import RunIdentity
from include.claim.dataset_check import check_parameter
from include.datasets.rules import check_rules
from include.deployment.connections import open_bucket, open_training_db
from include.deployment.retrying import treat_refusals_as_temporary
from include.deployment.settings import Settings, load_deployed_plans
from include.jobs.repository import JobRepository
from include.jobs.spec import TrainingSpec
from include.models.promotion import register_copy
from include.models.repository import ModelRepository
from include.models.request import ChosenVersion
from include.orchestration.assets import TRAINING_DATASET
from include.orchestration.current_schema import require_current_schema
from include.orchestration.failures import no_retry
from include.orchestration.notes import leave_note
from include.retraining.gate import decide, find_reason_to_skip
from include.retraining.plans import PlanError
from include.retraining.request import RetrainRequest
from include.tasks.promote_model import promote_and_announce
from include.tasks.retrain_payloads import Challenge, Retraining, Verdict, flatten_metrics
from include.tasks.watch_dataset import is_about

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.datasets.reference import DatasetReference
    from include.jobs.job import TrainingJob
    from include.models.version import ModelVersion
    from include.retraining.plans import RetrainPlan
    from include.tasks.retrain_payloads import Approval, Evaluations

log = logging.getLogger(__name__)


class NothingToDo(Exception):
    """There is nothing to train; the message says why."""


def resolve_plan(context: Context, plan: str | None) -> Retraining:
    """Return the plan named `plan`, or else the one in the run's conf, with the conf applied.

    Raises AirflowSkipException if the run was triggered by data that the plan does not use.
    """
    dag_run = context["dag_run"]
    require_current_schema()
    with no_retry():
        request = RetrainRequest.parse(({"plan": plan} if plan else {}) | (dag_run.conf or {}))
        chosen = request.apply_to(load_deployed_plans().require(request.plan))
    _skip_unless_about_plan(chosen, context)
    user = dag_run.triggering_user_name
    run = RunIdentity(dag_run.dag_id, dag_run.run_id, dag_run.run_after, user)
    return Retraining(plan=chosen, job_id=run.name_job(chosen.name), force=request.force, triggered_by=user)


def check_retraining_data(retraining: Retraining) -> DatasetReference:
    """Find and check the plan's newest data."""
    plan = retraining.plan
    with no_retry():
        settings = Settings.from_environment()
        rules = check_rules(plan.build_spec().build_arguments())
        found = check_parameter(plan.dataset, plan.task, settings, open_bucket(settings), rules)
    return found.reference


def challenge_champion(retraining: Retraining, dataset: DatasetReference, context: Context) -> Challenge:
    """Decide what to train. Raises AirflowSkipException if nothing is new; the run's note says why."""
    try:
        with open_training_db() as connection, no_retry():
            challenge = build_challenge(
                retraining, dataset, ModelRepository(connection), JobRepository(connection)
            )
    except NothingToDo as reason:
        raise _note_skip(context, str(reason)) from None
    log.info("Training %s: %s", challenge.job_id, challenge.conf)
    return challenge


def build_challenge(
    retraining: Retraining, dataset: DatasetReference, models: ModelRepository, jobs: JobRepository
) -> Challenge:
    """Return the request to `train_yolo`. Raises NothingToDo, and PlanError if the plan was changed."""
    plan, job_id = retraining.plan, retraining.job_id
    champion, parameters = models.find_production(plan.name), plan.compute_fingerprint()
    if not retraining.force:
        same = models.find_trained_with(plan.name, data=dataset.fingerprint, parameters=parameters)
        reason = find_reason_to_skip(champion, same, job_id=job_id)
        if reason:
            raise NothingToDo(f"Nothing was trained: {reason}.")
    start = champion.path if champion and plan.start_from == "champion" else None
    spec = plan.build_spec(start)
    existing = jobs.get(job_id)
    if existing is not None and existing.spec:
        spec = _restore_spec(spec, existing)
    elif dataset.version is not None:  # newer versions were not compared with the champion's data
        spec = spec.model_copy(update={"dataset": str(dataset.version)})
    return Challenge(
        job_id=job_id,
        run_id=f"retrain__{job_id}",
        conf=spec.model_dump(mode="json", exclude_none=True) | {"job_id": job_id},
        timeout_hours=plan.timeout_hours,
        parameters_fingerprint=parameters,
    )


def judge(retraining: Retraining, challenge: Challenge, measured: Evaluations, context: Context) -> Verdict:
    """Register the challenger with both evaluations, and apply the gate; reject a challenger that fails."""
    plan = retraining.plan
    decision = decide(measured.challenger, measured.champion, plan.gate)
    evidence: dict[str, Any] = {
        "metrics": flatten_metrics(measured.challenger),
        "champion_version": measured.champion_version,
        "champion_metrics": flatten_metrics(measured.champion) if measured.champion else None,
        "reason": decision.reason,
    }
    with open_training_db() as connection, no_retry(), treat_refusals_as_temporary():
        models = ModelRepository(connection)
        version = register_copy(
            connection,
            open_bucket(Settings.from_environment()),
            plan.name,
            job_id=challenge.job_id,
            run_id=context["run_id"],
            dataset=measured.dataset,
            dataset_fingerprint=measured.dataset_fingerprint,
            parameters_fingerprint=challenge.parameters_fingerprint,
            **evidence,
        )
        # If this task was cleared, the version is already registered, but the champion may be another one.
        models.measure(plan.name, version.version, **evidence)
        if not decision.passed:
            models.reject(plan.name, version.version, decision.reason)
    log.info(
        "The gate has %s for %s: %s.", "passed" if decision.passed else "failed", version, decision.reason
    )
    return Verdict(
        name=plan.name,
        version=version.version,
        champion_version=measured.champion_version,
        passed=decision.passed,
        reason=decision.reason,
        ask=plan.approval,
    )


def promote_challenger(
    retraining: Retraining, verdict: Verdict, approval: Approval | None, context: Context
) -> ModelVersion:
    """Promote the challenger if it passed the gate and, where required, was approved; emit the asset.

    Raises AirflowSkipException if the challenger is refused. In either case, the run's note says why.
    """
    refusal = find_refusal(verdict, approval)
    if refusal:
        if verdict.passed:
            with open_training_db() as connection, no_retry():
                ModelRepository(connection).reject(verdict.name, verdict.version, refusal)
        raise _note_skip(
            context, f"Version {verdict.version} of model {verdict.name} was refused: {refusal}."
        )
    with open_training_db() as connection, no_retry(), treat_refusals_as_temporary():
        chosen = ChosenVersion(
            name=verdict.name,
            version=verdict.version,
            expected=verdict.champion_version,
            reason=verdict.reason,
        )
        approver = approval.by if approval else None
        by = approver or retraining.triggered_by or f"plan {retraining.plan.name}"
        promoted = promote_and_announce(connection, chosen, by, context)
    leave_note(context, f"Promoted {promoted}: {verdict.reason}.")
    return promoted


def find_refusal(verdict: Verdict, answer: Approval | None) -> str | None:
    """Return why the challenger is not promoted; None if it is."""
    if not verdict.passed:
        return verdict.reason
    if verdict.ask and (answer is None or not answer.approved):
        by = f"{answer.by} refused it" if answer and answer.by else "nobody approved it"
        return f"{by}, although the gate passed: {verdict.reason}"
    return None


def _skip_unless_about_plan(plan: RetrainPlan, context: Context) -> None:
    """Raise AirflowSkipException if all events since the one that triggered the run are about other datasets.

    All datasets share one asset, so an event about any of them triggers the run. An event that names no
    dataset counts as an event about every dataset. From the first event until Airflow creates the run, which
    has to wait while another run of the plan is active, further events trigger no run and are not passed to
    this one. Therefore all later events are read as well.
    """
    if context["dag_run"].run_type != "asset_triggered":
        return
    triggering = context["triggering_asset_events"].get(TRAINING_DATASET, ())
    if not triggering:
        return
    first = min(event.timestamp for event in triggering)
    events = context["inlet_events"][TRAINING_DATASET].after(first.isoformat())
    extras = [event.extra or {} for event in events]
    if not any(is_about(extra, plan.dataset) or "dataset" not in extra for extra in extras):
        changed = ", ".join(sorted({str(extra["dataset"]) for extra in extras}))
        raise _note_skip(
            context, f"The changed data are {changed}; plan {plan.name} trains on {plan.dataset}."
        )


def _note_skip(context: Context, reason: str) -> AirflowSkipException:
    """Write the reason into the run's note; return the exception that skips the rest of the run."""
    leave_note(context, reason)
    return AirflowSkipException(reason)


def _restore_spec(spec: TrainingSpec, row: TrainingJob) -> TrainingSpec:
    """Return the spec that the job was started with, so that a cleared run resumes its training.

    If the plan starts from the champion, the spec keeps the version that was the champion at that time.
    Raises PlanError if the plan's other parameters have changed since then.
    """
    started = TrainingSpec.parse_stored(dict(row.spec or {}))
    pinned = spec.with_version_of(started)
    then, now = ({**one.with_defaults().identity(), "model": ""} for one in (started, pinned))
    if then != now:
        changed = ", ".join(name for name in sorted({*then, *now}) if then.get(name) != now.get(name))
        raise PlanError(
            f"The plan has been changed ({changed}) since this run started job {row.job_id}; "
            "trigger a new run"
        )
    return started
