"""Starts another API server of the running stack, configured for a proxy in front of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from include.stack import processes
from include.stack.local import Stack
from include.stack.ports import LOOPBACK, choose
from include.stack.processes import Service


@contextmanager
def another_api_server(stack: Stack, name: str, base_url: str, *options: str) -> Iterator[Service]:
    """Start an API server on a free port, configured for base_url; yield its service (see `port_of`)."""
    airflow, port = stack.airflow, choose()
    own = {"AIRFLOW__API__BASE_URL": base_url, "AIRFLOW__API__PORT": str(port)}
    program = next(
        folder for folder in airflow.environment["PATH"].split(":") if (Path(folder) / "airflow").exists()
    )
    service = Service(
        name=name,
        command=(str(Path(program) / "airflow"), "api-server", *options),
        environment=airflow.build_environment("api-server") | own,
        directory=airflow.home,
        state=stack.state.path,
    )

    def answers() -> bool:
        try:
            return requests.get(f"http://{LOOPBACK}:{port}/api/v2/version", timeout=10).ok
        except requests.RequestException:
            return False

    processes.start(service)
    try:
        processes.wait_until_ready(service, answers, 120)
        yield service
    finally:
        processes.stop(service)


def port_of(service: Service) -> int:
    """Return the port on which the API server listens."""
    return int(service.environment["AIRFLOW__API__PORT"])


def base_url_of(service: Service) -> str:
    """Return the URL that users of the API server know."""
    return service.environment["AIRFLOW__API__BASE_URL"]
