"""The output of `make env`: shell commands that export the variables of the running stack."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from include.stack.airflow import REPOSITORY

if TYPE_CHECKING:
    from include.stack.local import Stack


def render_exports(stack: Stack) -> list[str]:
    """Return the variables in `Stack.env` as export lines for a shell.

    The wheel's psql comes last on the PATH, so that any other psql takes precedence. The repository is on
    Python's path, so that the Dags find `include`.
    """
    lines = [f"export {name}={shlex.quote(value)}" for name, value in stack.env.items()]
    modules = f'export PYTHONPATH={shlex.quote(str(REPOSITORY))}"${{PYTHONPATH:+:$PYTHONPATH}}"'
    programs = shlex.quote(str(stack.postgres.programs))
    return [*lines, modules, f'export PATH="$PATH":{programs}']
