"""What `make status` says: what runs and where, and what had to be started again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.stack import processes
from include.stack.ports import LOOPBACK

if TYPE_CHECKING:
    from include.stack.local import Stack
    from include.stack.processes import Service
    from include.stack.restarts import Restarts


def service_states(stack: Stack) -> dict[str, str]:
    """Each service by name: where it is, or that it is stopped, and how often it was restarted."""
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
        name: service_state(service, where, history.get(service.name))
        for name, (service, where) in listed.items()
    }


def service_state(service: Service, where: str, restarts: Restarts | None) -> str:
    """Where it is, or that it is stopped, and what the supervisor did about it."""
    runs = processes.running(service) is not None
    shown = [where if runs else "stopped"]
    if restarts:
        shown.append(str(restarts))
        if restarts.is_given_up and not runs:
            shown.append(f"given up: correct what {service.log} says, then `make up`")
    return "; ".join(shown)
