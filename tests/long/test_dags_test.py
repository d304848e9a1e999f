"""A Dag runs in a shell with `airflow dags test`, as Dag developers use it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from include.stack.overview import render_exports
from tests.support.airflow_client import Airflow, job_row
from tests.support.long.gate import GatedStack


def test_airflow_dags_test_trains_in_a_shell_with_the_stacks_environment(
    api: Airflow, gated_stack: GatedStack, job_conf: dict[str, Any], tmp_path: Path
) -> None:
    lines = "\n".join(render_exports(gated_stack))
    shell = {"PATH": f"{sysconfig.get_path('scripts')}:{os.defpath}", "HOME": str(tmp_path)}
    conf = json.dumps(job_conf | {"job_id": "dags-test", "epochs": 1})
    tested = subprocess.run(
        ["sh", "-c", f"{lines}\nexec airflow dags test train_yolo --conf {shlex.quote(conf)}"],
        env=shell,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert tested.returncode == 0, tested.stdout[-3000:] + tested.stderr[-3000:]
    assert job_row(gated_stack, "dags-test")["status"] == "completed"
