"""Holds no Dag: where a plan in the file of retraining plans is wrong, this is the import error that says so.

Airflow shows it above the list of Dags and at `GET /api/v2/importErrors`. The file is apart from
`retrain_yolo.py`, because a file that raises loses all of its Dags: valid plans go on running.
"""

from __future__ import annotations

from include.pipeline.plans import deployed_plans
from include.retraining.plans import PlanError

plans = deployed_plans()
if plans.errors:
    raise PlanError(f"{plans.path} has {len(plans.errors)} errors:\n" + "\n".join(plans.errors))
