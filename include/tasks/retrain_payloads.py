"""What travels between the tasks of `retrain_yolo`: plain JSON, read and written by the same models."""

from __future__ import annotations

from typing import Any

from include.payload import Payload
from include.retraining.plans import RetrainPlan
from include.training.evaluate import Evaluation


class Retraining(Payload):
    """A run's plan."""

    plan: RetrainPlan
    """The plan, as the run's own parameters have changed it."""
    job_id: str
    """Name of the challenger's training."""
    force: bool
    """Whether to train even if nothing is new."""
    triggered_by: str | None
    """User who triggered the run; None for a schedule."""


class Challenge(Payload):
    """What `train_yolo` is asked for, in which of its runs, and by when."""

    job_id: str
    """Name of the challenger's training."""
    run_id: str
    """Run of `train_yolo`."""
    conf: dict[str, Any]
    """Its parameters."""
    timeout_hours: float
    """How long to wait for it."""
    parameters_fingerprint: str
    """The plan's."""


class Challenger(Payload):
    """A finished training's best.pt, as its job's row records it."""

    job_id: str
    """The training."""
    path: str
    """The s3:// URI of the file."""
    sha256: str
    """Of the whole file, in lower-case hex."""


class Measured(Payload):
    """Both evaluations, on the same split of the same data: those that the challenger was trained on."""

    dataset: str
    """What the challenger was trained on."""
    dataset_fingerprint: str
    """Identifies its content."""
    challenger: Evaluation
    """What the challenger reaches."""
    champion_version: int | None
    """Version in production; None for nothing."""
    champion: Evaluation | None
    """What the champion reaches; None where nothing was in production."""


class Verdict(Payload):
    """What the gate says of a registered version."""

    name: str
    """The model."""
    version: int
    """The challenger, as it was registered."""
    champion_version: int | None
    """Version that it was compared with; None for nothing."""
    passed: bool
    """Whether the gate holds."""
    reason: str
    """Why, in a sentence."""
    ask: bool
    """Whether somebody has to agree, too."""


class Approval(Payload):
    """What somebody has answered."""

    approved: bool
    """Whether the version is to be promoted."""
    by: str | None
    """Who answered; None for a time-out."""


def flatten_metrics(evaluation: Evaluation) -> dict[str, float | None]:
    """Return an evaluation as one flat table, as it is recorded: each class is a metric `classes/{name}`."""
    classes = {f"classes/{name}": value for name, value in evaluation.classes.items()}
    return {**evaluation.metrics, **classes}
