"""Parameters that decide what happens when the loss jumps or is not a number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from include.jobs.parameter_schema import parameter
from include.training.loss_rules import NO_RULES, Action, LossRules

if TYPE_CHECKING:
    from include.jobs.spec import TrainingSpec

_LOSS = "Loss spikes and NaN"

OnLossSpike = Annotated[
    Literal["warn", "stop", "roll back"] | None,
    Field(
        description="What to do when the loss jumps: warn in the log, stop the job, or roll back to an "
        "earlier state, lower the learning rate and continue with the next epoch.",
        json_schema_extra=parameter(_LOSS, when_empty="nothing"),
    ),
]

LossSpike = Annotated[
    float | None,
    Field(
        gt=1,
        le=1_000_000,
        description="The loss has jumped when, three batches in a row, it exceeds the largest loss of the "
        "100 batches before by this factor.",
        json_schema_extra=parameter(_LOSS, default=2),
    ),
]

OnNan = Annotated[
    Literal["stop", "roll back"] | None,
    Field(
        description="What to do when the loss is not a number (NaN or infinite).",
        json_schema_extra=parameter(
            _LOSS, when_empty="repeat the epoch as Ultralytics does, at most three times, then stop"
        ),
    ),
]

RollBackStates = Annotated[
    int | None,
    Field(
        ge=1,
        le=5,
        description="How many states to roll back: 1 returns to the start of the current epoch, 2 to the "
        "start of the one before. Each state makes last.pt larger by nearly its own size.",
        json_schema_extra=parameter(_LOSS, default=NO_RULES.states),
    ),
]

RollBackLr = Annotated[
    float | None,
    Field(
        gt=0,
        le=1,
        description="Factor applied to the learning rate at each rollback.",
        json_schema_extra=parameter(_LOSS, default=NO_RULES.rate),
    ),
]


def loss_rules_of(spec: TrainingSpec) -> LossRules:
    """Return the loss rules of `spec`, with our defaults for null."""
    return LossRules(
        on_spike=Action(spec.on_loss_spike) if spec.on_loss_spike else None,
        on_nan=Action(spec.on_nan) if spec.on_nan else None,
        factor=spec.loss_spike or NO_RULES.factor,
        states=spec.roll_back_states or NO_RULES.states,
        rate=spec.roll_back_lr or NO_RULES.rate,
    )


def check_loss_rules(spec: TrainingSpec) -> None:
    """Raise ValueError for settings of a rule that is off, because they show that the rule was expected."""
    if spec.loss_spike is not None and spec.on_loss_spike is None:
        raise ValueError(
            f"loss_spike={spec.loss_spike:g} does nothing while on_loss_spike is empty; set on_loss_spike, "
            "or omit loss_spike"
        )
    if loss_rules_of(spec).needs_states:
        return
    for name, value in (("roll_back_states", spec.roll_back_states), ("roll_back_lr", spec.roll_back_lr)):
        if value is not None:
            raise ValueError(
                f"{name}={value} does nothing without a rule that rolls back; set on_loss_spike='roll back' "
                f"or on_nan='roll back', or omit {name}"
            )
