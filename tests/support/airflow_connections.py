"""What Airflow gives to code that runs in it: connections to the services of the tests, and a context."""

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
    """Return `training_db`, and `training_s3` with the keys of a role, as environment variables.

    `training_s3_maintenance` is also there, as on the workers of queue `maintenance`.
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
    """Make `training_db` and `training_s3` lead there, and set the bucket and TRAINING_ROOT.

    Local datasets may lie beside TRAINING_ROOT.

    Connections that the API keeps open are closed: they lead to the database of the previous test file.
    """
    database.pool.dispose()
    for name, value in connections_to(database_url, s3, role).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CHECKPOINT_BUCKET", bucket)
    monkeypatch.setenv("CPU_WORKER", "true")
    monkeypatch.setenv("TRAINING_ROOT", str(root))
    monkeypatch.setenv("DATASET_ROOTS", str(root.parent))


TASK_INSTANCE_ID = UUID("019acd1e-3c00-7000-8000-000000000000")
"""Of the kind that Airflow assigns: it contains the time at which the task instance was made."""


def context_of(conf: dict[str, Any], **more: Any) -> Context:
    """Return what Airflow passes to a task of run1, or to its callback."""
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
    """Return what Airflow passes to a task of a run of `train_yolo` that this user has just triggered."""
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
