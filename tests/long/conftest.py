"""Fixtures of the long tests, such as a separate stack whose Airflow reaches S3 through a gate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from include.stack.local import Stack
from include.stack.steps import Steps
from tests.support.airflow_client import Airflow
from tests.support.long.gate import Gate, GatedStack
from tests.support.long.observed import LOGS, ObservedStack
from tests.support.long.report import Report
from tests.support.otlp_collector import OtlpCollector
from tests.support.scheduled_trainings import Training, small_job, stored_weights
from tests.support.stacks import UNSAFE_BUT_FAST, own_stack, reachable_directory

EPOCHS = 50

_REPORT = pytest.StashKey[Report]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_REPORT] = Report(Path(config.getoption("--report") or ".stack/killed-runs.md"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    report = config.stash[_REPORT]
    if report.rows or report.interrupted:
        terminalreporter.section(str(report.path))
        terminalreporter.write_line(report.write())


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> Report:
    return pytestconfig.stash[_REPORT]


@pytest.fixture(scope="session")
def gated_stack() -> Iterator[GatedStack]:
    """Yield a separate stack with all services; its Airflow reaches S3 through a gate."""
    with reachable_directory() as directory:
        s3 = Stack.at(directory).s3.endpoint_url
        with Gate(s3) as gate:
            stack = GatedStack(Stack.at(directory).state, UNSAFE_BUT_FAST, gate=gate)
            try:
                stack.up(Steps.quiet())
                yield stack
            finally:
                stack.down(Steps.quiet())


@pytest.fixture(scope="session")
def api(gated_stack: GatedStack) -> Airflow:
    client = Airflow(gated_stack)
    client.run("migrate_schema", {})
    return client


@pytest.fixture(scope="session")
def job_conf(gated_stack: GatedStack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the parameters that all jobs of the long tests share."""
    return small_job(gated_stack, tmp_path_factory.mktemp("model"), EPOCHS)


@pytest.fixture(scope="session")
def uninterrupted(
    api: Airflow, gated_stack: GatedStack, job_conf: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Return the hash of the final weights of a job that was never interrupted."""
    training = Training(api, gated_stack, job_conf | {"job_id": "uninterrupted"})
    training.ends()
    return stored_weights(gated_stack, "uninterrupted", tmp_path_factory.mktemp("uninterrupted"))


@pytest.fixture(scope="session")
def collector() -> Iterator[OtlpCollector]:
    """Yield a collector that receives the metrics of the stack `observed`."""
    with OtlpCollector() as collector:
        yield collector


@pytest.fixture(scope="session")
def observed(collector: OtlpCollector) -> Iterator[ObservedStack]:
    """Yield a separate stack that stores its logs in S3 and sends its metrics to the collector."""
    with reachable_directory() as directory:
        state = Stack.at(directory).state
        stack = ObservedStack(state, UNSAFE_BUT_FAST, endpoint=collector.endpoint)
        try:
            stack.start_servers(Steps.quiet())
            stack.s3.ensure_bucket(LOGS)
            stack.up(Steps.quiet())
            yield stack
        finally:
            stack.down(Steps.quiet())


@pytest.fixture
def elsewhere() -> Iterator[Stack]:
    """Yield a second, empty stack whose Airflow is not running yet."""
    with own_stack() as stack:
        yield stack
