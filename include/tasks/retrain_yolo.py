"""What each task of `retrain_yolo` does: open the outside world, call one part, close it."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from include.datasets.check import check_dataset
from include.datasets.s3 import S3ObjectReader
from include.deployment.connections import open_bucket, open_training_db, s3_client
from include.deployment.plans import deployed_plans
from include.deployment.retrying import treat_refusals_as_temporary
from include.deployment.settings import Settings
from include.jobs.repository import JobRepository
from include.jobs.spec import TrainingSpec
from include.models.promotion import promote, register_copy
from include.models.repository import ModelRepository
from include.models.request import ChosenVersion
from include.orchestration.assets import TRAINING_DATASET
from include.orchestration.failures import no_retry
from include.orchestration.notes import leave_note
from include.retraining.gate import decide
from include.retraining.novelty import find_reason_to_skip
from include.retraining.plans import PlanError
from include.retraining.request import RetrainRequest
from include.schema.current import require_current
from include.tasks.promote_model import announce
from include.tasks.retrain_payloads import (
    Challenge,
    Retraining,
    Verdict,
    flatten_metrics,
)
from include.tasks.watch_dataset import is_about

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.datasets.reference import DatasetReference
    from include.jobs.job import TrainingJob
    from include.models.version import ModelVersion
    from include.retraining.plans import RetrainPlan
    from include.tasks.retrain_payloads import (
        Approval,
        Measured,
    )

log = logging.getLogger(__name__)


class NothingToDo(Exception):
    """Nothing has to be trained; the message says why."""


def resolve_plan(context: Context, plan: str | None) -> Retraining:
    """Read what this run is to do: its conf over its plan, by name or the one in the conf.

    Raises AirflowSkipException for a run that was started by other data than the plan's.
    """
    dag_run = context["dag_run"]
    with open_training_db() as connection, no_retry():
        require_current(connection)
    with no_retry():
        request = RetrainRequest.parse(({"plan": plan} if plan else {}) | (dag_run.conf or {}))
        chosen = request.apply_to(deployed_plans().require(request.plan))
    _skip_unless_about_plan(chosen, context)
    digest = hashlib.sha256(f"{dag_run.dag_id}/{dag_run.run_id}".encode()).hexdigest()[:6]
    return Retraining(
        plan=chosen,
        job_id=f"{chosen.name}-{dag_run.run_after:%Y%m%d-%H%M%S}-{digest}",
        force=request.force,
        triggered_by=dag_run.triggering_user_name,
    )


def check_retraining_data(retraining: Retraining) -> DatasetReference:
    """Find and check the newest data of the plan."""
    plan = retraining.plan
    with no_retry():
        settings = Settings.from_environment()
        reader = S3ObjectReader(s3_client())
        return check_dataset(plan.dataset, plan.task, settings.dataset_cache, reader, settings.dataset_roots)


def challenge_champion(retraining: Retraining, dataset: DatasetReference, context: Context) -> Challenge:
    """Decide what to train. Raises AirflowSkipException where there is nothing new; the note says why."""
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
    """Return what `train_yolo` is to train. Raises NothingToDo, and PlanError for a plan that was changed."""
    plan, job_id = retraining.plan, retraining.job_id
    champion, parameters = models.production(plan.name), plan.fingerprint()
    if not retraining.force:
        reason = find_reason_to_skip(
            champion,
            models.list(plan.name),
            data=dataset.fingerprint,
            parameters=parameters,
            job_id=job_id,
        )
        if reason:
            raise NothingToDo(f"Nothing was trained: {reason}.")
    start = champion.path if champion and plan.start_from == "champion" else None
    spec = plan.spec(start)
    begun = jobs.get(job_id)
    if begun is not None and begun.spec:
        spec = _restore_spec(spec, begun)
    return Challenge(
        job_id=job_id,
        run_id=f"retrain__{job_id}",
        conf=spec.model_dump(mode="json", exclude_none=True) | {"job_id": job_id},
        timeout_hours=plan.timeout_hours,
        parameters_fingerprint=parameters,
    )


def judge(retraining: Retraining, challenge: Challenge, measured: Measured, context: Context) -> Verdict:
    """Register the challenger with both evaluations, and let the gate decide; what it refuses is rejected."""
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
        models.measure(plan.name, version.version, **evidence)  # a cleared task may find another champion
        if not decision.passed:
            models.reject(plan.name, version.version, decision.reason)
    log.info(
        "The gate %s for %s: %s.", "holds" if decision.passed else "does not hold", version, decision.reason
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
    """Promote what the gate, and whoever was asked, let pass, and announce it.

    Raises AirflowSkipException for a challenger that was refused. Either way the run's note says why.
    """
    refused = find_refusal(verdict, approval)
    if refused:
        if verdict.passed:
            with open_training_db() as connection, no_retry():
                ModelRepository(connection).reject(verdict.name, verdict.version, refused)
        raise _note_skip(
            context, f"Version {verdict.version} of model {verdict.name} was refused: {refused}."
        )
    with open_training_db() as connection, no_retry(), treat_refusals_as_temporary():
        promoted = promote(
            connection,
            open_bucket(Settings.from_environment()),
            ChosenVersion(
                name=verdict.name,
                version=verdict.version,
                expected=verdict.champion_version,
                reason=verdict.reason,
            ),
            by=_name_promoter(retraining, approval),
        )
    announce(promoted, context["outlet_events"])
    leave_note(context, f"Promoted {promoted}: {verdict.reason}.")
    return promoted


def find_refusal(verdict: Verdict, answer: Approval | None) -> str | None:
    """Why the challenger is not promoted; None if it is."""
    if not verdict.passed:
        return verdict.reason
    if verdict.ask and (answer is None or not answer.approved):
        by = f"{answer.by} refused it" if answer and answer.by else "nobody agreed"
        return f"{by}, though the gate held: {verdict.reason}"
    return None


def _name_promoter(retraining: Retraining, answer: Approval | None) -> str:
    asked = answer.by if answer else None
    return asked or retraining.triggered_by or f"plan {retraining.plan.name}"


def _skip_unless_about_plan(plan: RetrainPlan, context: Context) -> None:
    """One asset stands for all datasets. An event that names none is taken to be of each."""
    if context["dag_run"].run_type != "asset_triggered":
        return
    events = context["triggering_asset_events"].get(TRAINING_DATASET, ())
    extras = [event.extra or {} for event in events]
    if extras and not any(is_about(extra, plan.dataset) or "dataset" not in extra for extra in extras):
        changed = ", ".join(sorted({str(extra["dataset"]) for extra in extras}))
        raise _note_skip(context, f"What changed is {changed}; plan {plan.name} trains on {plan.dataset}.")


def _note_skip(context: Context, reason: str) -> AirflowSkipException:
    """Return the exception that ends the run here, and leave its reason where people look first."""
    leave_note(context, reason)
    return AirflowSkipException(reason)


def _restore_spec(spec: TrainingSpec, row: TrainingJob) -> TrainingSpec:
    """Return what a training was begun with, where a cleared run asks for it again: it goes on as it is.

    Another champion meanwhile does not matter, the training began with the one before. Other parameters do.
    """
    begun = TrainingSpec.parse_stored(dict(row.spec or {}))
    then, now = ({**each.with_defaults().identity(), "model": ""} for each in (begun, spec))
    if then != now:
        changed = ", ".join(name for name in sorted({*then, *now}) if then.get(name) != now.get(name))
        raise PlanError(
            f"The plan was changed ({changed}) since this run began to train job {row.job_id}; trigger a new "
            "run"
        )
    return begun
