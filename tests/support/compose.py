"""The files of a deployment, parsed for its tests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tests.support.locks import read_lock

REPOSITORY = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
AIRFLOW = sorted(name for name in SERVICES if name.startswith("airflow-"))
TRAINERS = ["airflow-worker-cpu-training", "airflow-worker-gpu"]
ENV_EXAMPLE = (REPOSITORY / ".env.example").read_text()
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()
DEPLOYMENT_PAGE = (REPOSITORY / "docs" / "deployment.md").read_text()
VARIABLE = re.compile(r"\$\{(\w+)(:?[-?+])?")


def required_variables() -> set[str]:
    """Return the variables without which Compose does not start."""
    text = (REPOSITORY / "docker-compose.yaml").read_text()
    return {name for name, operator in VARIABLE.findall(text) if operator == ":?"}


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """Return each mounted source with its path in the container; mounts without a source are omitted."""
    written = [
        f"{mount['source']}:{mount['target']}" if isinstance(mount, dict) else mount
        for mount in service.get("volumes", [])
    ]
    return dict(mount.split(":")[:2] for mount in written if ":" in mount)


def locked_version(package: str) -> str:
    [version] = {pin.version for pin in read_lock(REPOSITORY / "requirements.txt") if pin.package == package}
    return version
