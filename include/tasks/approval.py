"""Ask a person before a model comes into production, with Airflow's human-in-the-loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from airflow.providers.standard.operators.hitl import HITLOperator

from include.orchestration.xcoms import parse_result
from include.tasks.retrain_payloads import Approval, Verdict

if TYPE_CHECKING:
    from airflow.sdk import Context

PROMOTE, REFUSE = "Promote", "Refuse"


class AskForApproval(HITLOperator):
    """Wait for somebody's answer, without a worker; ask nobody where plan and gate leave no question."""

    template_fields = ("subject", "body", "verdict")

    def __init__(self, *, verdict: Verdict, **options: Any) -> None:
        super().__init__(subject="Promote the challenger?", options=[PROMOTE, REFUSE], **options)
        self.verdict = verdict

    @property
    def approval(self) -> Approval | None:
        """What the task returns, for the tasks after it; in a Dag this is Airflow's reference to it."""
        return cast("Approval | None", self.output)

    def execute(self, context: Context) -> None:
        """Ask, where there is a question."""
        verdict = parse_result(Verdict, self.verdict, "judge")
        if not (verdict.passed and verdict.ask):
            return
        now = f"version {verdict.champion_version}" if verdict.champion_version else "nothing"
        self.subject = f"Promote version {verdict.version} of model {verdict.name}? In production is {now}."
        self.body = f"The gate holds: {verdict.reason}."
        super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Hand on what was answered, and by whom."""
        answer = super().execute_complete(context, event)
        who = answer["responded_by_user"]
        return Approval(
            approved=answer["chosen_options"] == [PROMOTE], by=who["name"] if who else None
        ).model_dump(mode="json")
