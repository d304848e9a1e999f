"""A training run continues after its stack is stopped and started again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from include.stack.steps import Steps
from tests.support.airflow_client import Airflow
from tests.support.long.gate import GatedStack
from tests.support.scheduled_trainings import Training, stored_weights

pytestmark = pytest.mark.timeout(1800)


def test_a_training_run_continues_after_its_stack_was_stopped_and_started(
    api: Airflow, gated_stack: GatedStack, job_conf: dict[str, Any], uninterrupted: str, tmp_path: Path
) -> None:
    training = Training(api, gated_stack, job_conf | {"job_id": "down-and-up"})
    training.reaches(3)
    recorded = training.recorded
    gated_stack.down(Steps.quiet())
    gated_stack.up(Steps.quiet())
    row = training.ends(900)
    assert (row["status"], row["inexact_reason"]) == ("completed", None)
    begins = r"Resuming after (?:batch (\d+) of )?epoch (\d+),"
    ((batch, epoch),) = re.findall(begins, training.log(training.attempt))
    assert int(epoch) - (2 if batch else 1) >= recorded
    assert stored_weights(gated_stack, "down-and-up", tmp_path) == uninterrupted
