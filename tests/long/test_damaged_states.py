"""A job whose states are damaged and then deleted never starts over unless told to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.airflow_client import Airflow
from tests.support.long.gate import GatedStack
from tests.support.scheduled_trainings import Training, damage, remove_states, store, stored_weights

pytestmark = pytest.mark.timeout(900)


def test_a_damaged_state_is_detected_and_a_missing_one_does_not_start_the_job_over(
    api: Airflow, gated_stack: GatedStack, job_conf: dict[str, Any], uninterrupted: str, tmp_path: Path
) -> None:
    conf = job_conf | {"job_id": "damaged"}
    training = Training(api, gated_stack, conf)
    training.reaches(3)
    process = training.process()
    with training.before_the_next_attempt():
        training.kill("last.pt damaged", process)
        training.wipe()
        damage(gated_stack, "damaged")
        previous = store(gated_stack).head("damaged", "last.previous")
    assert previous is not None
    assert previous.checkpoint is not None

    training.reaches(training.kills[0].epoch + 1)
    process = training.process()
    with training.before_the_next_attempt():
        training.kill("last.pt gone", process)
        training.wipe()
        remove_states(gated_stack, "damaged")
    row = training.fails()
    assert row["status"] == "failed"
    assert "last.pt is gone: restore it, or set fresh=true to start over" in row["error"]
    assert training.reported()[0].went_on_after == previous.checkpoint.epoch

    refused = Training(api, gated_stack, conf)
    assert refused.fails() == row
    assert "last.pt is gone; restore it" in refused.log(1, "resolve_config")

    fresh = Training(api, gated_stack, conf | {"fresh": True})
    row = fresh.ends()
    assert (row["status"], row["origin_run_id"]) == ("completed", fresh.run_id)
    assert "Resuming after" not in fresh.log(1)
    assert stored_weights(gated_stack, "damaged", tmp_path) == uninterrupted
