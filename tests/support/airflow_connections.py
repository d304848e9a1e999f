"""Stands in for Airflow: connections to the services of the tests, and the context of a task."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from include.api import database
from include.stack.s3_identities import Role

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from airflow.sdk import Context

    from include.stack.s3 import S3


def connections_to(database_url: str, s3: S3, role: Role = Role.WORKER) -> dict[str, str]:
    """Return the connections `training_db` and `training_s3` (with a role's keys) as environment variables.

    The connection `training_s3_maintenance` is included, as on the workers of the queue `maintenance`.
    """
    return {
        "AIRFLOW_CONN_TRAINING_DB": database_url,
        "AIRFLOW_CONN_TRAINING_S3": _s3_connection(s3, role),
        "AIRFLOW_CONN_TRAINING_S3_MAINTENANCE": _s3_connection(s3, Role.MAINTENANCE),
    }


def _s3_connection(s3: S3, role: Role) -> str:
    keys = s3.keys[role]
    extra = {"endpoint_url": s3.endpoint_url, "region_name": s3.region}
    return json.dumps(
        {"conn_type": "aws", "login": keys.access_key, "password": keys.secret_key, "extra": extra}
    )


def lead_to(
    monkeypatch: pytest.MonkeyPatch,
    database_url: str,
    s3: S3,
    bucket: str,
    root: Path,
    role: Role = Role.WORKER,
) -> None:
    """Point `training_db` and `training_s3` to these services, and set the bucket and TRAINING_ROOT.

    Local datasets are allowed in the parent folder of TRAINING_ROOT.

    Also close the API's open database connections, which belong to the previous test file.
    """
    database.pool.dispose()
    for name, value in connections_to(database_url, s3, role).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CHECKPOINT_BUCKET", bucket)
    monkeypatch.setenv("CPU_WORKER", "true")
    monkeypatch.setenv("TRAINING_ROOT", str(root))
    monkeypatch.setenv("DATASET_ROOTS", str(root.parent))


TASK_INSTANCE_ID = UUID("019acd1e-3c00-7000-8000-000000000000")
"""A UUID of version 7, as Airflow assigns it: it contains the creation time of the task instance."""


def context_of(conf: dict[str, Any], **more: Any) -> Context:
    """Return the context that Airflow passes to a task of run1, or to the task's callback."""
    return cast(
        "Context",
        {
            "dag": SimpleNamespace(dag_id="train_yolo"),
            "dag_run": SimpleNamespace(conf=conf, triggering_user_name="ada"),
            "run_id": "run1",
            "ti": SimpleNamespace(id=TASK_INSTANCE_ID, task_id="check_schema"),
            **more,
        },
    )


def context_of_run(run_id: str, conf: dict[str, Any], user: str | None = "ada") -> Context:
    """Return the context of a task in a run of `train_yolo` that this user has just triggered."""
    now = datetime.now(UTC)
    run = SimpleNamespace(
        dag_id="train_yolo",
        run_id=run_id,
        run_after=now,
        start_date=now,
        triggering_user_name=user,
        conf=conf,
    )
    return context_of({}, dag_run=run)
