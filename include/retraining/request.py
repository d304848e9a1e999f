"""The parameters of a run of `retrain_yolo`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError

from include.request import LenientRequest
from include.retraining.plans import PlanError, RetrainPlan, describe_problems


class RetrainRequest(LenientRequest):
    """Every parameter of `retrain_yolo`.

    If a parameter is null, the value in the plan applies.
    """

    dag_id = "retrain_yolo"

    plan: str = Field(max_length=64, description="Name of the retraining plan to run.")
    force: bool = Field(
        False,
        description="Train even if the model in production, or a version that was rejected or rolled back, "
        "was already trained with the same data and parameters.",
    )
    start_from: Literal["champion", "scratch"] | None = Field(
        None,
        description="champion: start from the model in production; scratch: start from the plan's model. "
        "Default: as in the plan.",
    )
    parameters: dict[str, Any] | None = Field(
        None,
        description="Parameters of train_yolo for this run, which override those of the plan. Example: "
        '{"epochs": 50}.',
    )
    approval: bool | None = Field(
        None, description="Whether a person has to approve the promotion. Default: as in the plan."
    )

    def apply_to(self, plan: RetrainPlan) -> RetrainPlan:
        """Return the plan with this run's parameters applied. Raises PlanError if the result is invalid."""
        given = self.model_dump(include={"start_from", "approval"}, exclude_none=True)
        if self.parameters:
            given["parameters"] = plan.parameters | self.parameters
        try:
            return RetrainPlan.model_validate(plan.model_dump() | given)
        except ValidationError as error:
            problems = "; ".join(describe_problems(error))
            raise PlanError(f"plan={self.plan!r} with this run's parameters: {problems}") from None
