"""Loads the retraining plans of this deployment. Dag files import this module, so it imports little."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from include.retraining.plans import PLANS, load_plans

if TYPE_CHECKING:
    from include.retraining.plans import Plans


def load_deployed_plans() -> Plans:
    """Read the file that RETRAIN_PLANS names, or the one in this repository. Never raises."""
    return load_plans(Path(os.environ.get("RETRAIN_PLANS") or PLANS))
