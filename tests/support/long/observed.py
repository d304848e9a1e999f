"""A stack configured according to docs/monitoring.md: task logs in S3, metrics over OTLP."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from include.stack.airflow import Airflow
from include.stack.local import Stack

LOGS = "airflow-logs"
"""The bucket for the task logs."""


@dataclass(frozen=True)
class ObservedStack(Stack):
    """A stack whose Airflow sends its metrics to the collector at `endpoint`."""

    endpoint: str = ""

    @property
    def airflow(self) -> Airflow:
        """Return Airflow with the environment variables of docs/monitoring.md."""
        plain = super().airflow
        logs = {
            "conn_type": "aws",
            "login": self.s3.access_key,
            "password": self.s3.secret_key,
            "extra": {"endpoint_url": self.s3.endpoint_url, "region_name": self.s3.region},
        }
        observation = {
            "AIRFLOW__METRICS__OTEL_ON": "True",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": self.endpoint,
            "OTEL_METRIC_EXPORT_INTERVAL": "5000",
            "AIRFLOW__LOGGING__REMOTE_LOGGING": "True",
            "AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER": f"s3://{LOGS}/tasks",
            "AIRFLOW__LOGGING__REMOTE_LOG_CONN_ID": "airflow_logs",
            "AIRFLOW_CONN_AIRFLOW_LOGS": json.dumps(logs),
        }
        return replace(plain, variables={**plain.variables, **observation})

    def stored_log(self, dag_id: str, run_id: str, task_id: str) -> str:
        """Return the log of the task's first attempt from S3; the attempt must have ended."""
        key = f"tasks/dag_id={dag_id}/run_id={run_id}/task_id={task_id}/attempt=1.log"
        return self.s3.client().get_object(Bucket=LOGS, Key=key)["Body"].read().decode()
