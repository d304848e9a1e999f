"""Payloads passed between the tasks of `retrain_yolo`: plain JSON, read and written with the same models."""

from __future__ import annotations

from typing import Any

from include.payload import Payload
from include.retraining.plans import RetrainPlan
from include.training.evaluate import Evaluation


class Retraining(Payload):
    """The plan of a run."""

    plan: RetrainPlan
    """The plan, with the run's own parameters applied."""
    job_id: str
    """Name of the challenger's job."""
    force: bool
    """Whether to train even if nothing is new."""
    triggered_by: str | None
    """User who triggered the run; None for a schedule."""


class Challenge(Payload):
    """A request to `train_yolo`."""

    job_id: str
    """Name of the challenger's job."""
    run_id: str
    """Run of `train_yolo`."""
    conf: dict[str, Any]
    """Parameters of the run."""
    timeout_hours: float
    """How long to wait for the training run to end."""
    parameters_fingerprint: str
    """Fingerprint of the plan's parameters."""


class Challenger(Payload):
    """A finished training run's best.pt, as its job's row records it."""

    job_id: str
    """Job that trained it."""
    path: str
    """The s3:// URI of the file."""
    sha256: str
    """Hash of the whole file, in lower-case hex."""


class Evaluations(Payload):
    """Evaluations of challenger and champion, on the same split of the challenger's dataset."""

    dataset: str
    """Dataset that the challenger was trained on, as given in the parameter `dataset`."""
    dataset_fingerprint: str
    """Fingerprint of that dataset's content."""
    challenger: Evaluation
    """Evaluation of the challenger."""
    champion_version: int | None
    """Version in production, if any."""
    champion: Evaluation | None
    """Evaluation of the champion, if there is one."""


class Verdict(Payload):
    """The gate's decision on a registered version."""

    name: str
    """Name of the model."""
    version: int
    """Version of the challenger."""
    champion_version: int | None
    """Version that the challenger was compared with, if any."""
    passed: bool
    """Whether the challenger has passed the gate."""
    reason: str
    """Reason, as a sentence."""
    ask: bool
    """Whether a person has to approve the version as well."""


class Approval(Payload):
    """A person's answer."""

    approved: bool
    """Whether the version is to be promoted."""
    by: str | None
    """Who answered; None if Airflow does not say."""


def flatten_metrics(evaluation: Evaluation) -> dict[str, float | None]:
    """Return the evaluation as the flat dictionary to record: each class is a metric `classes/{name}`."""
    classes = {f"classes/{name}": value for name, value in evaluation.classes.items()}
    return {**evaluation.metrics, **classes}
