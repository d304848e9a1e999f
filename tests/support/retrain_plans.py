"""Retraining plans for tests, and plan files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from include.deployment.settings import DEFAULT_BUCKET
from include.retraining.plans import RetrainPlan

if TYPE_CHECKING:
    from pathlib import Path

GOOD: dict[str, Any] = {"name": "good", "dataset": "digits", "parameters": {"epochs": 3}}

SHAPES = f"s3://{DEFAULT_BUCKET}/datasets/shapes/"
"""The address of the data in the stack's plan."""

START = f"s3://{DEFAULT_BUCKET}/start/shapes.pt"
"""The weights that the stack's plan starts from while its model has no champion."""


def plan(**given: Any) -> RetrainPlan:
    """Return a valid plan with some of its values replaced."""
    return RetrainPlan.model_validate(GOOD | given)


def written(folder: Path, *plans: Any) -> Path:
    """Write a file with these plans; return its path."""
    path = folder / "plans.yaml"
    path.write_text(yaml.safe_dump({"plans": list(plans)}), encoding="utf-8")
    return path


def of_the_stack(folder: Path) -> Path:
    """Write the plan file of the stack under test, with one plan; a test has to store its model at START."""
    shapes = {
        "name": "shapes",
        "dataset": SHAPES,
        "model": START,
        "parameters": {
            "epochs": 25,
            "imgsz": 64,
            "batch": 4,
            "optimizer": "MuSGD",
            "lr0": 0.01,
            "device": "cpu",
            "overrides": {"plots": False, "nbs": 12, "warmup_epochs": 1, "close_mosaic": 4},
        },
        "schedule": {"on_new_data": True},
        "timeout_hours": 0.2,
        "gate": {"minimum_gain": 0.01},
        "approval": True,
    }
    return written(folder, shapes)
