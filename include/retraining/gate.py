"""Whether a challenger may take the champion's place: numbers, and a sentence that says why."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from include.training.contract import Task
    from include.training.evaluate import Evaluation

_BOX, _MASK, _POSE = (
    tuple(f"metrics/{name}({part})" for name in ("precision", "recall", "mAP50", "mAP50-95"))
    for part in "BMP"
)

METRICS: dict[Task, tuple[str, ...]] = {
    "detect": (*_BOX, "fitness"),
    "segment": (*_BOX, *_MASK, "fitness"),
    "classify": ("metrics/accuracy_top1", "metrics/accuracy_top5", "fitness"),
    "pose": (*_BOX, *_POSE, "fitness"),
    "obb": (*_BOX, "fitness"),
}
"""What an evaluation of a task measures, in Ultralytics' words. More is better in each."""

_ROUNDING = 1e-9
"""0.71 - 0.7 is less than 0.01 for a computer, and not for who wrote 0.01 into the plan."""

_LISTED_CLASSES = 5


class Gate(BaseModel):
    """What is asked of a challenger, measured on the same validation split of the same data as the champion.

    Gains and drops are differences of the metrics themselves, which lie between 0 and 1: 0.01 is one point of
    a hundred.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    metric: str = Field("metrics/mAP50-95(B)", description="The metric that decides; higher is better.")
    minimum_gain: float = Field(
        0.0, ge=-1, le=1, description="Minimum by which the metric must exceed the champion's."
    )
    max_class_drop: float | None = Field(
        None, ge=0, le=1, description="Maximum drop of any single class. Default: classes are not compared."
    )
    minimum: float | None = Field(
        None, ge=0, le=1, description="Minimum value of the metric, even if there is no champion."
    )


@dataclass(frozen=True)
class Decision:
    """Whether the gate holds, and the sentence that is recorded with it."""

    passed: bool
    reason: str


def decide(challenger: Evaluation, champion: Evaluation | None, gate: Gate) -> Decision:
    """Compare two evaluations on the same data; champion is None where nothing is in production yet."""
    name, reached = gate.metric, challenger.metrics.get(gate.metric)
    if not _is_number(reached):
        return Decision(False, f"the challenger's {name} is no number: its training diverged")
    if gate.minimum is not None and reached < gate.minimum - _ROUNDING:
        return Decision(False, f"{name} is {reached:.4f}, below the minimum of {gate.minimum:.4f}")
    if champion is None:
        return Decision(True, f"{name} is {reached:.4f}, and nothing was in production yet")
    before = champion.metrics.get(name)
    if not _is_number(before):
        return Decision(True, f"{name} is {reached:.4f}, and the champion's is no number")
    change = f"{name} went from {before:.4f} to {reached:.4f} ({reached - before:+.4f})"
    if reached - before < gate.minimum_gain - _ROUNDING:
        return Decision(False, f"{change}, but the gate asks for {gate.minimum_gain:+.4f} at least")
    if gate.max_class_drop is None:
        return Decision(True, f"{change}, and the gate asks for {gate.minimum_gain:+.4f} at least")
    fallen = _fallen(challenger, champion, gate.max_class_drop)
    if fallen:
        return Decision(
            False, f"{change}, but no class may fall by more than {gate.max_class_drop:.4f}: {fallen}"
        )
    return Decision(True, f"{change}, and no class fell by more than {gate.max_class_drop:.4f}")


def _fallen(challenger: Evaluation, champion: Evaluation, allowed: float) -> str:
    """Name the classes that fell too far, the worst first, in words; empty if there are none."""
    drops = []
    for name, before in champion.classes.items():
        after = challenger.classes.get(name)
        after = after if _is_number(after) else 0.0  # it is not found any more at all
        if _is_number(before) and before - after > allowed + _ROUNDING:
            drops.append((before - after, f"{name} went from {before:.4f} to {after:.4f}"))
    drops.sort(reverse=True)
    listed = [words for _, words in drops[:_LISTED_CLASSES]]
    if len(drops) > len(listed):
        listed.append(f"and {len(drops) - len(listed)} more")
    return ", ".join(listed)


def _is_number(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
