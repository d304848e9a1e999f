"""What `make status` and `make env` print: the state of each service, and the variables of the stack."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from include.stack import processes
from include.stack.airflow import REPOSITORY
from include.stack.ports import LOOPBACK, exempt_from_proxies

if TYPE_CHECKING:
    from include.stack.local import Stack
    from include.stack.processes import Service
    from include.stack.restarts import Restarts


def describe_services(stack: Stack) -> dict[str, str]:
    """Return the state of each service by name: its address or "stopped", and its restarts."""
    listed = {
        "PostgreSQL": (stack.postgres.service, f"{LOOPBACK}:{stack.ports.postgres}"),
        "S3": (stack.s3.service, stack.s3.endpoint_url),
        **{
            f"Airflow {part.name}": (part, stack.url if part.name == "api-server" else "running")
            for part in stack.airflow.services
        },
        "Supervisor": (stack.supervisor, "running"),
    }
    history = stack.restarts.read()
    return {
        name: describe_service(service, where, history.get(service.name))
        for name, (service, where) in listed.items()
    }


def describe_service(service: Service, where: str, restarts: Restarts | None) -> str:
    """Return the service's address or "stopped", and how often the supervisor restarted it."""
    is_running = processes.find_process(service) is not None
    shown = [where if is_running else "stopped"]
    if restarts and restarts.last:
        shown.append(str(restarts))
        if restarts.is_given_up and not is_running:
            shown.append(f"not restarted again: fix the problem shown in {service.log}, then run `make up`")
    return "; ".join(shown)


def render_exports(stack: Stack) -> list[str]:
    """Return the variables in `Stack.env` as export lines for a shell.

    The wheel's psql comes last on the PATH, so that any other psql takes precedence. The repository is on
    Python's path, so that the Dags find `include`. Proxies are not used for the stack.
    """
    variables = stack.env | exempt_from_proxies(os.environ)
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    modules = f'export PYTHONPATH={shlex.quote(str(REPOSITORY))}"${{PYTHONPATH:+:$PYTHONPATH}}"'
    programs = shlex.quote(str(stack.postgres.programs))
    return [*lines, modules, f'export PATH="$PATH":{programs}']
