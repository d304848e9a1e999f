"""config/monitoring: each query works for a read-only role, and each alert uses an existing metric."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import promql_parser
import psycopg
import pytest
import yaml
from psycopg.rows import dict_row

from include.jobs.repository import JobRepository
from include.stack.postgres import Postgres
from tests.support.jobs import claim, epoch_report, started

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "config" / "monitoring"
PAGE = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]


class Loader(yaml.SafeLoader):
    """Reads the exporter's YAML, including its tag for environment variables."""


Loader.add_constructor("!env", lambda loader, node: node.value)
EXPORTER: dict[str, Any] = yaml.load((MONITORING / "queries.yaml").read_text(), Loader)  # noqa: S506 - a SafeLoader
LABELS = {name: tuple(metric.get("labels", ())) for name, metric in EXPORTER["metrics"].items()}


@pytest.fixture
def monitoring_connection(
    postgres: Postgres, owner: psycopg.Connection[Any]
) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection as the role that docs/monitoring.md creates."""
    role = f"monitoring_{secrets.token_hex(4)}"
    made = re.search(r"```sql\n(CREATE ROLE monitoring .*?)```", PAGE, re.DOTALL)
    assert made
    statements = made[1].replace("monitoring", role).replace("DATABASE training", "DATABASE postgres")
    (schema,) = owner.execute("SELECT current_schema()").fetchone() or ("",)
    with psycopg.connect(postgres.build_url("postgres"), autocommit=True) as superuser:
        superuser.execute(f"SET search_path TO {schema}")
        superuser.execute(f"{statements} GRANT USAGE ON SCHEMA {schema} TO {role}".encode())
        with psycopg.connect(postgres.build_url("postgres"), autocommit=True) as reading:
            reading.execute(f"SET search_path TO {schema}; SET ROLE {role}".encode())
            yield reading
        superuser.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())


def measured(reader: psycopg.Connection[Any]) -> dict[tuple[str, ...], float]:
    """Return every value that the exporter would publish, by metric and labels."""
    found = {}
    for name, query in EXPORTER["queries"].items():
        with reader.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(query["sql"].encode()).fetchall()
        for row in rows:
            labels = {label for metric in query["metrics"] for label in LABELS[metric]}
            assert set(row) == labels | set(query["metrics"]), name
            for metric in query["metrics"]:
                found[metric, *(str(row[label]) for label in LABELS[metric])] = float(row[metric])
    return found


def test_each_query_measures_what_its_metrics_say(
    jobs: JobRepository, connection: psycopg.Connection[Any], monitoring_connection: psycopg.Connection[Any]
) -> None:
    started(jobs, epochs=1)
    for epoch in range(1, 4):
        jobs.record_epoch("a", "run1", 1, epoch_report(epoch))
    claim(jobs, "b", "run2")
    connection.execute(
        "UPDATE training_jobs SET queued_at = now() - INTERVAL '1 hour' WHERE job_id = 'b';"
        "UPDATE training_jobs SET updated_at = now() - INTERVAL '10 minutes', lost_seconds = 7 "
        "WHERE job_id = 'a';"
        "INSERT INTO training_jobs (job_id, status) VALUES ('c', 'failed');"
        "INSERT INTO checkpoint_audits (run_id, finding, path, detail, repair) VALUES "
        "('1', 'missing', 's3://b/x', '', NULL), ('2', 'missing', 's3://b/x', '', NULL), "
        "('2', 'damaged', 's3://b/y', '', 'copied')"
    )
    connection.commit()

    found = measured(monitoring_connection)

    statuses = {name[1]: value for name, value in found.items() if name[0] == "training_jobs"}
    assert statuses == {"queued": 1, "running": 1, "completed": 0, "failed": 1, "stopped": 0}
    assert found["training_jobs_failed_recently",] == 1
    assert found["training_queue_oldest_seconds",] >= 3600
    assert found["training_progress_oldest_seconds",] >= 600
    assert found["training_undurable_epochs",] == 2
    assert found["training_lost_seconds",] == 7
    assert found["training_audit_losses", "missing"] == 1
    assert found["training_audit_losses", "damaged"] == 0
    assert {name for name, *_ in found} == set(EXPORTER["metrics"])


def test_each_query_returns_zero_for_empty_tables(monitoring_connection: psycopg.Connection[Any]) -> None:
    assert set(measured(monitoring_connection).values()) == {0.0}


def airflow_metrics() -> set[str]:
    """Return Airflow's OTLP metrics by their names in Prometheus."""
    package = find_spec("airflow")
    assert package
    assert package.origin
    registry = Path(package.origin).parent / "_shared" / "observability" / "metrics" / "metrics_template.yaml"
    listed: list[Mapping[str, str]] = yaml.safe_load(registry.read_text())["metrics"]
    suffixes = {"counter": "_total"}
    return {f"airflow_{each['name']}".replace(".", "_") + suffixes.get(each["type"], "") for each in listed}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_alert_uses_an_existing_metric(rule: dict[str, Any]) -> None:
    promql_parser.parse(rule["expr"])
    used = set(re.findall(r"\b(?:airflow|training)_\w+", rule["expr"]))
    assert used
    assert used <= airflow_metrics() | set(EXPORTER["metrics"])
    assert set(rule["labels"]) == {"severity"}
    assert rule["annotations"]["summary"].endswith(".")


def test_each_metric_and_each_alert_is_documented() -> None:
    documented = set(re.findall(r"^\| `(\w+)", PAGE, re.MULTILINE))
    assert documented >= set(EXPORTER["metrics"]) | {rule["alert"] for rule in RULES}
