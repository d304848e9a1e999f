"""The parameters of a job that say what happens where its loss jumps or is not a number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from include.training.loss_rules import NO_RULES, Action, LossRules

if TYPE_CHECKING:
    from pydantic.config import JsonDict

    from include.jobs.spec import TrainingSpec

_LOSS: JsonDict = {"section": "Loss spikes and NaN"}

OnLossSpike = Annotated[
    Literal["warn", "stop", "roll back"] | None,
    Field(
        description="What to do when the loss jumps: warn in the log, stop the job, or roll back to an "
        "earlier state, lower the learning rate and go on with the next epoch. Empty: nothing.",
        json_schema_extra=_LOSS,
    ),
]

LossSpike = Annotated[
    float | None,
    Field(
        gt=1,
        le=1_000_000,
        description="The loss has jumped when it is above so many times the largest of the 100 batches "
        "before, three times in a row. Empty: 2.",
        json_schema_extra=_LOSS,
    ),
]

OnNan = Annotated[
    Literal["stop", "roll back"] | None,
    Field(
        description="What to do when the loss is not a number (NaN or infinite). Empty: repeat the epoch, as "
        "Ultralytics does, at most three times; then stop.",
        json_schema_extra=_LOSS,
    ),
]

RollBackStates = Annotated[
    int | None,
    Field(
        ge=1,
        le=5,
        description="How many states to roll back: 1 is the beginning of the epoch, 2 that of the epoch "
        "before it. Each makes last.pt larger by nearly its own size. Empty: 1.",
        json_schema_extra=_LOSS,
    ),
]

RollBackLr = Annotated[
    float | None,
    Field(
        gt=0,
        le=1,
        description="Factor by which each roll-back changes the learning rate. Empty: 0.5.",
        json_schema_extra=_LOSS,
    ),
]


def loss_rules_of(spec: TrainingSpec) -> LossRules:
    """Return the rules; what is null is our own default."""
    return LossRules(
        on_spike=Action(spec.on_loss_spike) if spec.on_loss_spike else None,
        on_nan=Action(spec.on_nan) if spec.on_nan else None,
        factor=spec.loss_spike or NO_RULES.factor,
        states=spec.roll_back_states or NO_RULES.states,
        rate=spec.roll_back_lr or NO_RULES.rate,
    )


def check_loss_rules(spec: TrainingSpec) -> None:
    """Refuse numbers of a rule that is off: whoever gives them believes that it is on. Raises ValueError."""
    if spec.loss_spike is not None and spec.on_loss_spike is None:
        raise ValueError(
            f"loss_spike={spec.loss_spike:g} does nothing while on_loss_spike is empty; give on_loss_spike, "
            "or leave loss_spike out"
        )
    if loss_rules_of(spec).needs_states:
        return
    for name, value in (("roll_back_states", spec.roll_back_states), ("roll_back_lr", spec.roll_back_lr)):
        if value is not None:
            raise ValueError(
                f"{name}={value} does nothing without a rule that rolls back; give on_loss_spike='roll back' "
                f"or on_nan='roll back', or leave {name} out"
            )
