"""What travels between the tasks of `retrain_yolo`: plain JSON, read and written by the same models."""

from __future__ import annotations

from typing import Any

from include.claim.payloads import Payload
from include.retraining.plans import RetrainPlan
from include.training.evaluate import Evaluation


class Retraining(Payload):
    """A run's plan, as its own parameters have changed it. job_id names the challenger's training."""

    plan: RetrainPlan
    job_id: str
    force: bool
    triggered_by: str | None


class Challenge(Payload):
    """What `train_yolo` is asked for, in which of its runs, and by when.

    parameters_fingerprint is the plan's.
    """

    job_id: str
    run_id: str
    conf: dict[str, Any]
    timeout_hours: float
    parameters_fingerprint: str


class Challenger(Payload):
    """A finished training's best.pt, as its job's row records it."""

    job_id: str
    path: str
    sha256: str


class Measured(Payload):
    """Both evaluations, on the same split of the same data: those that the challenger was trained on.

    champion is None, and champion_version too, where nothing was in production.
    """

    dataset: str
    dataset_fingerprint: str
    challenger: Evaluation
    champion_version: int | None
    champion: Evaluation | None


class Verdict(Payload):
    """What the gate says of a registered version; ask tells that somebody has to agree, too."""

    name: str
    version: int
    champion_version: int | None
    passed: bool
    reason: str
    ask: bool


class Approval(Payload):
    """What somebody has answered; by is None where a time-out did."""

    approved: bool
    by: str | None


def numbers(evaluation: Evaluation) -> dict[str, float | None]:
    """Return an evaluation as one flat table, as it is recorded: each class is a metric `classes/{name}`."""
    classes = {f"classes/{name}": value for name, value in evaluation.classes.items()}
    return {**evaluation.metrics, **classes}
