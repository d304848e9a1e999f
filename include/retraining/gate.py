"""Decides whether to train a challenger, and whether it may replace the champion; says why in a sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

from pydantic import BaseModel, ConfigDict, Field

from include.models.version import Stage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from include.models.version import ModelVersion
    from include.training.evaluate import Evaluation
    from include.ultralytics_tasks import Task

_BOX, _MASK, _POSE = (
    tuple(f"metrics/{name}({part})" for name in ("precision", "recall", "mAP50", "mAP50-95"))
    for part in "BMP"
)

METRICS: dict[Task, tuple[str, ...]] = {
    "detect": (*_BOX, "fitness"),
    "segment": (*_BOX, *_MASK, "fitness"),
    "semantic": ("metrics/mIoU", "metrics/pixel_acc", "fitness"),
    "depth": ("metrics/delta1", "metrics/delta2", "metrics/delta3", "fitness"),
    "classify": ("metrics/accuracy_top1", "metrics/accuracy_top5", "fitness"),
    "pose": (*_BOX, *_POSE, "fitness"),
    "obb": (*_BOX, "fitness"),
}
"""The metrics by which the gate can decide, for each task, as Ultralytics names them. In all of them, higher
is better: the errors of a depth model (`metrics/rmse`, …) are not among them."""

_ROUNDING = 1e-9
"""Tolerance for floating-point rounding: 0.71 - 0.7 is less than 0.01 in binary."""

_LISTED_CLASSES = 5


class Gate(BaseModel):
    """The requirements for a challenger, which is evaluated on the same validation data as the champion.

    Gains and drops are differences between metrics, which range from 0 to 1: 0.01 is one percentage point.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    metric: str = Field(
        "metrics/mAP50-95(B)",
        description="The metric that decides; higher is better. Default in a plan: the metric of its task.",
    )
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
    """Whether the challenger passed the gate, and why."""

    passed: bool
    """Whether the challenger passed."""
    reason: str
    """A sentence, which is recorded with the version."""


def find_reason_to_skip(
    champion: ModelVersion | None, same: Iterable[ModelVersion], *, job_id: str
) -> str | None:
    """Return why training is not needed; None if it is.

    A model is not trained again with the same data and parameters as the model in production. This applies
    even to a plan that starts from the champion. Otherwise each promotion would be a reason to train once
    more on the same data, from the new champion.

    `same` holds all versions of the model that were trained on the same data with the same parameters. A
    version that was rejected or rolled back counts only if it was compared with the current champion: a new
    champion changes both the starting point and the bar. Versions from `job_id` itself do not count.
    """
    present = champion.version if champion else None
    for version in same:
        if version.version == present:
            return (
                f"data and parameters are the same as for {champion}, which is in production; set force=true "
                "to train anyway"
            )
        if version.champion_version != present or version.job_id == job_id:
            continue
        if version.stage is Stage.REJECTED:
            return (
                f"data and parameters are the same as for {version}, which was already rejected "
                f"({version.reason}); set force=true to train anyway"
            )
        if version.stage is Stage.ARCHIVED:  # it replaced the champion, which is in production again
            return (
                f"data and parameters are the same as for {version}, which was in production until it was "
                f"rolled back to {champion}; set force=true to train anyway"
            )
    return None


def decide(challenger: Evaluation, champion: Evaluation | None, gate: Gate) -> Decision:
    """Compare two evaluations on the same data; `champion` is None if nothing is in production yet."""
    name, reached = gate.metric, challenger.metrics.get(gate.metric)
    if not _is_number(reached):
        return Decision(False, f"the challenger's {name} is not a number: its training diverged")
    if gate.minimum is not None and reached < gate.minimum - _ROUNDING:
        return Decision(False, f"{name} is {reached:.4f}, below the minimum of {gate.minimum:.4f}")
    if champion is None:
        return Decision(True, f"{name} is {reached:.4f}, and nothing was in production before")
    before = champion.metrics.get(name)
    if not _is_number(before):
        return Decision(True, f"{name} is {reached:.4f}, and the champion's is not a number")
    change = f"{name} went from {before:.4f} to {reached:.4f} ({reached - before:+.4f})"
    if reached - before < gate.minimum_gain - _ROUNDING:
        return Decision(False, f"{change}, but the gate requires at least {gate.minimum_gain:+.4f}")
    if gate.max_class_drop is None:
        return Decision(True, f"{change}, and the gate requires at least {gate.minimum_gain:+.4f}")
    drops = _describe_drops(challenger, champion, gate.max_class_drop)
    if drops:
        return Decision(
            False, f"{change}, but no class may drop by more than {gate.max_class_drop:.4f}: {drops}"
        )
    return Decision(True, f"{change}, and no class dropped by more than {gate.max_class_drop:.4f}")


def _describe_drops(challenger: Evaluation, champion: Evaluation, allowed: float) -> str:
    """Describe the classes that dropped too far, the worst first; empty if there are none."""
    drops = []
    for name, before in champion.classes.items():
        after = challenger.classes.get(name)
        after = after if _is_number(after) else 0.0  # the challenger no longer finds this class at all
        if _is_number(before) and before - after > allowed + _ROUNDING:
            drops.append((before - after, f"{name} went from {before:.4f} to {after:.4f}"))
    drops.sort(reverse=True)
    listed = [words for _, words in drops[:_LISTED_CLASSES]]
    if len(drops) > len(listed):
        listed.append(f"and {len(drops) - len(listed)} more")
    return ", ".join(listed)


def _is_number(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
