"""Parameters that decide what happens when the loss jumps or is not a number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.refusals import FieldError
from include.training.loss_rules import NO_RULES, Action, LossRules

if TYPE_CHECKING:
    from include.jobs.spec import TrainingSpec


def build_loss_rules(spec: TrainingSpec) -> LossRules:
    """Return the loss rules of `spec`, with our defaults for null."""
    return LossRules(
        on_spike=Action(spec.on_loss_spike) if spec.on_loss_spike else None,
        on_nan=Action(spec.on_nan) if spec.on_nan else None,
        factor=spec.loss_spike or NO_RULES.factor,
        states=spec.roll_back_states or NO_RULES.states,
        rate=spec.roll_back_lr or NO_RULES.rate,
    )


def check_loss_rules(spec: TrainingSpec) -> None:
    """Raise FieldError if a rule is off but has settings, because the user apparently expects it to apply."""
    if spec.loss_spike is not None and spec.on_loss_spike is None:
        raise FieldError(
            f"loss_spike={spec.loss_spike:g} does nothing while on_loss_spike is empty; set on_loss_spike, "
            "or omit loss_spike"
        ).about("loss_spike")
    if build_loss_rules(spec).needs_states:
        return
    for name, value in (("roll_back_states", spec.roll_back_states), ("roll_back_lr", spec.roll_back_lr)):
        if value is not None:
            raise FieldError(
                f"{name}={value} does nothing without a rule that rolls back; set on_loss_spike='roll back' "
                f"or on_nan='roll back', or omit {name}"
            ).about(name)
