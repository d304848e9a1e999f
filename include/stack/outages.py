"""Waits while a service restarts: a run survives that, and so does the command that follows the run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import psycopg

from include.stack import processes
from include.stack.airflow_api import ApiUnavailable
from include.stack.errors import StackError

if TYPE_CHECKING:
    from include.stack.local import Stack
    from include.stack.steps import Steps

T = TypeVar("T")

LONGEST_SECONDS = 300.0
_PAUSE_SECONDS = 1.0


def retry_during_outage(stack: Stack, steps: Steps, request: Callable[[], T]) -> T:
    """Return the result of `request`, which is repeated while Airflow or PostgreSQL does not respond.

    Raises StackError if the outage lasts longer than LONGEST_SECONDS, or if the stack has been stopped.
    """
    deadline: float | None = None
    while True:
        try:
            return request()
        except (ApiUnavailable, psycopg.OperationalError) as error:
            if deadline is None:
                deadline = time.monotonic() + LONGEST_SECONDS
                steps.say("  Airflow or PostgreSQL is not responding; waiting until it is back ...")
            is_stopped = processes.find_process(stack.supervisor) is None
            if is_stopped or time.monotonic() > deadline:
                raise StackError(
                    f"{error}\nThe run was not stopped: it continues once the stack runs. See `make status` "
                    f"and {stack.url}."
                ) from error
        time.sleep(_PAUSE_SECONDS)
