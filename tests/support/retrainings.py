"""Runs of retrain_yolo, as their tasks know them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.tasks.retrain_payloads import Retraining

if TYPE_CHECKING:
    from include.retraining.plans import RetrainPlan

DATA = "d" * 64
"""The fingerprint of the data that these runs find."""


def retraining(plan: RetrainPlan, job_id: str = "good-1", **given: Any) -> Retraining:
    """A run of this plan, by ada."""
    return Retraining(plan=plan, job_id=job_id, **({"force": False, "triggered_by": "ada"} | given))
