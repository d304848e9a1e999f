"""Logs and metrics of a stack that is configured according to docs/monitoring.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import requests
import yaml

from tests.support.airflow_client import Airflow
from tests.support.api_client import log_in_over_rest
from tests.support.long.observed import LOGS, ObservedStack
from tests.support.otlp_collector import OtlpCollector
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(900)

DAG, TASK = "audit_checkpoints", "audit"
ALERTS = Path(__file__).parents[2] / "config" / "monitoring" / "alerts.yaml"

NOT_HAPPENED = {"airflow_task_instances_without_heartbeats_killed_total"}
"""Counters that are still 0 in this test; Airflow does not send a counter before its first count."""


@pytest.fixture(scope="module")
def run_id(observed: ObservedStack) -> str:
    """Run an audit to its end; return the id of the run."""
    api = Airflow(observed)
    api.run("migrate_schema", {})
    return api.run(DAG, {})


def test_a_task_log_is_stored_in_s3_and_shown_from_s3(observed: ObservedStack, run_id: str) -> None:
    path = f"dag_id={DAG}/run_id={run_id}/task_id={TASK}/attempt=1.log"
    assert "Audit" in observed.stored_log(DAG, run_id, TASK)

    shown = requests.get(
        f"{observed.url}/api/v2/dags/{DAG}/dagRuns/{run_id}/taskInstances/{TASK}/logs/1",
        headers={"Authorization": f"Bearer {log_in_over_rest(observed)}", "Accept": "application/json"},
        timeout=60,
    )

    assert shown.status_code == 200, shown.text
    assert f"s3://{LOGS}/tasks/{path}" in shown.text
    assert "Audit" in shown.text


@pytest.mark.usefixtures("run_id")
def test_airflow_sends_every_metric_that_an_alert_uses(collector: OtlpCollector) -> None:
    expressions = [
        rule["expr"]
        for group in yaml.safe_load(ALERTS.read_text())["groups"]
        for rule in group["rules"]
        if "airflow_" in rule["expr"]
    ]
    used = {name for text in expressions for name in re.findall(r"\bairflow_\w+", text)} - NOT_HAPPENED
    attributes = {pair for text in expressions for pair in re.findall(r'(\w+)="(\w+)"', text)}

    def have_arrived() -> bool:
        received = collector.received
        given = set().union(*(received.get(name, ()) for name in used))
        return used <= set(received) and attributes <= given

    # Wait for the attributes too: metrics are sent every five seconds, and the audit has only just ended, so
    # a metric may have arrived with the attributes of one Dag but not yet with those of another.
    until(have_arrived, f"{used} with {attributes}", 60)
