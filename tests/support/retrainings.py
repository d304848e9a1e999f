"""Runs of retrain_yolo, in the form in which their tasks pass them to one another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.tasks.retrain_payloads import Retraining

if TYPE_CHECKING:
    from include.retraining.plans import RetrainPlan

DATA = "d" * 64
"""The fingerprint of the data in these runs."""


def retraining(plan: RetrainPlan, job_id: str = "good-1", **given: Any) -> Retraining:
    """Return a run of this plan that ada started."""
    return Retraining(plan=plan, job_id=job_id, **({"force": False, "triggered_by": "ada"} | given))
