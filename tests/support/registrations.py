"""Registers datasets as the tasks of `register_dataset` do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import Context
from airflow.sdk.execution_time.context import OutletEventAccessors

from include.registry.request import RegisteredVersion
from include.tasks.register_dataset import check_data, record_version

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def run_of(run_id: str = "manual__1", user: str | None = "ada", **conf: Any) -> Context:
    """Return the context of the tasks in a run with this conf; `ti.sent` collects their XComs."""
    sent: dict[str, Any] = {}
    ti = SimpleNamespace(sent=sent, xcom_push=lambda key, value: sent.update({key: value}))
    dag_run = SimpleNamespace(conf=conf, run_id=run_id, triggering_user_name=user, dag_id="register_dataset")
    return cast(
        "Context",
        {"dag_run": dag_run, "run_id": run_id, "ti": ti, "outlet_events": OutletEventAccessors()},
    )


def registered(run_id: str, **conf: Any) -> RegisteredVersion:
    """Check the data and record them as a version; return the version."""
    context = run_of(run_id, **conf)
    return record_version(check_data(context), context)


def add_image(client: S3Client, bucket: str, machine: Path, name: str = "new") -> None:
    """Add a copy of a local image, with its labels, to the data in S3."""
    for kind, suffix in (("images", "png"), ("labels", "txt")):
        content = (machine / "data" / kind / "train" / f"0.{suffix}").read_bytes()
        client.put_object(Bucket=bucket, Key=f"set/{kind}/train/{name}.{suffix}", Body=content)
