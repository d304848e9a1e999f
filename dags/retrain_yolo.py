"""Retrain a model, and promote it to production only if it is better.

A plan in `include/retrain_plans.yaml` defines the data, the parameters, the schedule and the gate that a
challenger must pass. This Dag runs any plan on demand; every plan with a schedule also has its own Dag,
`retrain_yolo__{name}`, which is created paused.

| task | what it does |
|---|---|
| `resolve_plan` | reads the plan; skips the run if it was triggered by an event for other data |
| `check_dataset` | finds the newest data and checks them |
| `challenge_champion` | skips the rest if these data and parameters gave the champion or a refused version |
| `trigger_training` | starts `train_yolo`, from the champion's best.pt or from the `model` of the plan |
| `wait_for_training` | waits, without occupying a worker, until the job's row says how training ended |
| `evaluate` | evaluates challenger and champion on the same split of the same data, on the same GPU |
| `judge` | registers the challenger as a version with both evaluations, and applies the gate |
| `ask_approval` | asks a person to approve or reject, if the plan requires it |
| `promote` | promotes the version to production and emits the asset `production-model` |

A rejected challenger is also registered as a version, with the reason; `promote` is then skipped, and the run
succeeds. To roll back, use the Dag `promote_model`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, Param, dag, get_current_context

from include.datasets.reference import DatasetReference
from include.deployment.settings import (
    GPU_POOL,
    GPU_QUEUE,
    MAX_ACTIVE_RUNS,
    PROMOTION_QUEUE,
    load_deployed_plans,
)
from include.models.version import ModelVersion
from include.orchestration.assets import PRODUCTION_MODEL, TRAINING_DATASET
from include.orchestration.params import dag_params
from include.orchestration.retries import DEFAULT_ARGS
from include.orchestration.typed_task import typed_task
from include.retraining.request import RetrainRequest
from include.tasks.retrain_payloads import Approval, Challenge, Challenger, Evaluations, Retraining, Verdict
from include.tasks.training_operators import (
    ApprovalOperator,
    TriggerTrainingOperator,
    WaitForTrainingOperator,
)

if TYPE_CHECKING:
    from include.retraining.plans import RetrainPlan, Schedule

PLANS = load_deployed_plans().valid


def define_tasks(plan: str | None) -> None:
    """Define the tasks, for the given plan or for the plan in the run's parameters."""

    @typed_task(inlets=[TRAINING_DATASET])
    def resolve_plan() -> Retraining:
        """Read the plan, and apply the run's own parameters to it."""
        from include.tasks.retrain_yolo import resolve_plan

        return resolve_plan(get_current_context(), plan)

    @typed_task()
    def check_dataset(retraining: Retraining) -> DatasetReference:
        """Find the newest data and check them file by file."""
        from include.tasks.retrain_yolo import check_retraining_data

        return check_retraining_data(retraining)

    @typed_task()
    def challenge_champion(retraining: Retraining, dataset: DatasetReference) -> Challenge:
        """Decide what to train and from which weights, or skip the run if nothing is new."""
        from include.tasks.retrain_yolo import challenge_champion

        return challenge_champion(retraining, dataset, get_current_context())

    @typed_task(pool=GPU_POOL, queue=GPU_QUEUE)
    def evaluate(retraining: Retraining, challenge: Challenge, challenger: Challenger) -> Evaluations:
        """Evaluate challenger and champion on the data that the challenger was trained on."""
        from include.tasks.evaluation import evaluate_models

        return evaluate_models(retraining, challenge, challenger, get_current_context())

    @typed_task()
    def judge(retraining: Retraining, challenge: Challenge, measured: Evaluations) -> Verdict:
        """Register the challenger as a version, and apply the plan's gate."""
        from include.tasks.retrain_yolo import judge

        return judge(retraining, challenge, measured, get_current_context())

    @typed_task(outlets=[PRODUCTION_MODEL], queue=PROMOTION_QUEUE)
    def promote(retraining: Retraining, verdict: Verdict, approval: Approval | None) -> ModelVersion:
        """Promote the version to production, or record why it is not promoted."""
        from include.tasks.retrain_yolo import promote_challenger

        return promote_challenger(retraining, verdict, approval, get_current_context())

    resolved = resolve_plan()
    challenge = challenge_champion(resolved, check_dataset(resolved))
    trigger_training = TriggerTrainingOperator(
        task_id="trigger_training",
        challenge=challenge,
        doc_md="Start train_yolo, unless this run's job is already running or completed.",
    )
    wait_for_training = WaitForTrainingOperator(
        task_id="wait_for_training",
        challenge=challenge,
        doc_md="Wait, without occupying a worker, until the job's row says how training ended.",
    )
    verdict = judge(resolved, challenge, evaluate(resolved, challenge, wait_for_training.challenger))
    ask_approval = ApprovalOperator(
        task_id="ask_approval",
        verdict=verdict,
        doc_md="Ask a person to approve, if the plan has `approval: true` and the gate has passed.",
    )
    trigger_training >> wait_for_training
    promote(resolved, verdict, ask_approval.approval)


def build_schedule(schedule: Schedule) -> Any:
    """Return the schedule of a plan's own Dag: times, changed data, or both."""
    if schedule.cron is None:
        return [TRAINING_DATASET]
    times = CronTriggerTimetable(schedule.cron, timezone="UTC")
    return AssetOrTimeSchedule(timetable=times, assets=[TRAINING_DATASET]) if schedule.on_new_data else times


def plan_param(names: list[str], default: str | None) -> Param:
    """Return the form's field for the plan, which is required if it has no default."""
    schema: dict[str, Any] = {"title": "plan", "type": "string"} | ({"enum": names} if names else {})
    return Param(default, RetrainRequest.model_fields["plan"].description, schema=schema)


def define_dag(plan: RetrainPlan | None) -> None:
    """Define the Dag of a plan that has a schedule; without a plan, the Dag for any plan."""
    name = plan.name if plan else None

    @dag(
        dag_id=f"retrain_yolo__{name}" if name else "retrain_yolo",
        schedule=build_schedule(plan.schedule) if plan and plan.schedule else None,
        params=dag_params(RetrainRequest) | {"plan": plan_param([name] if name else list(PLANS), name)},
        doc_md=__doc__,
        tags=["training", "retraining"],
        default_args=DEFAULT_ARGS,
        catchup=False,
        max_active_runs=1 if plan else MAX_ACTIVE_RUNS,
        is_paused_upon_creation=plan is not None,
    )
    def retrain_yolo() -> None:
        define_tasks(name)

    retrain_yolo()


define_dag(None)
for plan in PLANS.values():
    if plan.schedule is not None:
        define_dag(plan)
