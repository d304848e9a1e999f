"""Asks a person before a model is promoted, with Airflow's human-in-the-loop operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from airflow.providers.standard.operators.hitl import HITLOperator

from include.orchestration.typed_task import parse_result
from include.tasks.retrain_payloads import Approval, Verdict

if TYPE_CHECKING:
    from airflow.sdk import Context

PROMOTE, REFUSE = "Promote", "Refuse"


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
