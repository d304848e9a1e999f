"""The console's progress of a job: what is left to do, and what is safe in S3."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.node import evaluate, needs_node

pytestmark = needs_node


@pytest.mark.parametrize(("passed", "left"), [(30, 270), (300, None), (3600, None)])
def test_an_estimate_is_shown_only_until_it_has_passed(passed: float, left: float | None) -> None:
    """A job stays `running` between two attempts, and then has no end in sight."""
    recorded_at = datetime(2026, 11, 30, tzinfo=UTC)
    now = (recorded_at + timedelta(seconds=passed)).timestamp() * 1000
    progress = {"eta_seconds": 300, "recorded_at": recorded_at.isoformat()}
    job = {"status": "running", "progress": progress}
    assert evaluate("progress.js", f"module.timeLeft({json.dumps(job)}, {now})") == left


@pytest.mark.parametrize(("expired_at", "state"), [(None, "epoch 9"), ("2026-11-30T00:00:00Z", None)])
def test_a_state_that_retention_has_deleted_is_not_called_safe(
    expired_at: str | None, state: str | None
) -> None:
    progress = {"durable_epochs": 9, "durable_batch": None, "batches": None}
    job: dict[str, Any] = {"progress": progress, "last_checkpoint_expired_at": expired_at}
    assert evaluate("progress.js", f"module.durableState({json.dumps(job)})") == state
