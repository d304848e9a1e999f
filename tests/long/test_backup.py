"""A job that is backed up during training and restored on another stack ends there with the same weights."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.stack.local import Stack
from include.stack.steps import Steps
from tests.support.airflow_client import Airflow, job_row
from tests.support.long.gate import GatedStack
from tests.support.scheduled_trainings import Training, stored_weights

pytestmark = pytest.mark.timeout(1800)

ROOT = Path(__file__).parents[2]
OFFSITE = "offsite"
EPOCHS = 12


def run_script(name: str, stack: Stack, elsewhere: Stack) -> str:
    """Run a script of config/ with the stack's environment from `make env`; return the script's output."""
    offsite = elsewhere.s3
    offsite.ensure_bucket(OFFSITE)
    remote = {
        "TYPE": "s3",
        "PROVIDER": "Other",
        "ENDPOINT": offsite.endpoint_url,
        "ACCESS_KEY_ID": offsite.access_key,
        "SECRET_ACCESS_KEY": offsite.secret_key,
        "REGION": offsite.region,
    }
    programs = [sysconfig.get_path("scripts"), str(stack.postgres.programs), os.environ["PATH"]]
    environment = {f"RCLONE_CONFIG_OFFSITE_{key}": value for key, value in remote.items()} | stack.env
    finished = subprocess.run(
        ["bash", str(ROOT / "config" / name), f"offsite:{OFFSITE}/nightly"],
        env=environment | {"PATH": os.pathsep.join(programs), "HOME": str(stack.state.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    print(finished.stdout, finished.stderr)
    return finished.stdout


def unrepaired(stack: Stack) -> list[tuple[Any, ...]]:
    with psycopg.connect(stack.training_db_url) as connection:
        return connection.execute(
            "SELECT finding, job_id, detail FROM checkpoint_audits WHERE finding IN ('missing', 'damaged')"
        ).fetchall()


def test_a_job_that_trains_during_a_backup_ends_with_the_same_weights_where_the_backup_is_restored(
    api: Airflow,
    gated_stack: GatedStack,
    elsewhere: Stack,
    job_conf: dict[str, Any],
    tmp_path: Path,
) -> None:
    conf = job_conf | {"epochs": EPOCHS, "job_id": "backed-up"}
    Training(api, gated_stack, conf | {"job_id": "finished"}).ends()
    training = Training(api, gated_stack, conf)
    training.reaches(3)
    assert "Complete: offsite:" in run_script("backup.sh", gated_stack, elsewhere)
    training.require_running()
    training.request_stop()

    run_script("restore.sh", elsewhere, elsewhere)
    with pytest.raises(AssertionError, match="both must be empty"):
        run_script("restore.sh", elsewhere, elsewhere)
    assert job_row(elsewhere, "backed-up")["status"] == "running"
    elsewhere.up(Steps.quiet())
    restored = Airflow(elsewhere)
    restored.run("migrate_schema", {})
    restored.run("audit_checkpoints", {"full": True})
    assert unrepaired(elsewhere) == []

    again = Training(restored, elsewhere, conf)
    row = again.ends(900)
    assert (row["status"], row["inexact_reason"]) == ("completed", None)
    assert re.search(r"Resuming after (?:batch \d+ of )?epoch \d+, from s3:", again.log(1))
    finished = stored_weights(elsewhere, "finished", tmp_path)
    assert stored_weights(elsewhere, "backed-up", tmp_path) == finished
    restored.run("audit_checkpoints", {"full": True})
    assert unrepaired(elsewhere) == []
    assert row["metrics"] == job_row(elsewhere, "finished")["metrics"]
