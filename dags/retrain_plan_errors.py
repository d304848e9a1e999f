"""Defines no Dag: raises an import error if a retraining plan is invalid.

Airflow shows import errors above the list of Dags and at `GET /api/v2/importErrors`. This file is separate
from `retrain_yolo.py`, because Airflow drops all Dags of a file that raises an exception: valid plans must
keep running.
"""

from __future__ import annotations

from include.deployment.settings import load_deployed_plans
from include.retraining.plans import PlanError

plans = load_deployed_plans()
if plans.errors:
    raise PlanError(f"{plans.path} has {len(plans.errors)} errors:\n" + "\n".join(plans.errors))
