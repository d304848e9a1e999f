"""The properties of a job's row: its status and its checkpoints."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from include.checkpoints.checkpoint import CHECKPOINT_KINDS, CheckpointKind
from include.jobs.job import JobStatus, TrainingJob
from include.jobs.recorded_checkpoint import RecordedCheckpoint, build_checkpoint_columns, name_columns


def job_of(status: str | None) -> TrainingJob:
    values: dict[str, Any] = {**dict.fromkeys(TrainingJob.model_fields), "status": status}
    return TrainingJob.model_construct(**values)


def test_every_status_is_active_or_has_ended() -> None:
    active = {status for status in JobStatus if job_of(status).is_active}
    ended = {status for status in JobStatus if job_of(status).has_ended}
    assert active == {"queued", "running"}
    assert ended == {"completed", "failed", "stopped"}
    assert {status for status in JobStatus if job_of(status).has_ended_well} == {"completed", "stopped"}


@pytest.mark.parametrize("status", [None, "shipped", "QUEUED"])
def test_a_status_of_a_host_application_is_neither_active_nor_ended(status: str | None) -> None:
    job = job_of(status)
    assert (job.is_active, job.has_ended, job.has_ended_well) == (False, False, False)


def test_a_row_has_the_properties_of_its_status() -> None:
    job = job_of("stopped")
    assert (job.is_active, job.has_ended, job.has_ended_well) == (False, True, True)


def test_a_job_that_was_cancelled_in_the_queue_has_ended_without_success() -> None:
    job = job_of("stopped").model_copy(update={"stop_requested": True})
    assert (job.was_cancelled, job.has_ended, job.has_ended_well) == (True, True, False)


@pytest.mark.parametrize("kind", CHECKPOINT_KINDS)
def test_a_checkpoint_is_read_from_the_columns_that_record_it(kind: CheckpointKind) -> None:
    recorded = RecordedCheckpoint(f"s3://bucket/{kind}.pt", "a" * 64, 7)
    columns = build_checkpoint_columns(kind, recorded)
    assert columns == {
        f"{kind}_checkpoint_path": f"s3://bucket/{kind}.pt",
        f"{kind}_checkpoint_sha256": "a" * 64,
        f"{kind}_checkpoint_size": 7,
    }
    assert RecordedCheckpoint.of(SimpleNamespace(**columns), kind) == recorded


def test_the_columns_of_both_checkpoints_are_fields_of_a_row() -> None:
    columns = {column for kind in CHECKPOINT_KINDS for column in name_columns(kind)}
    assert columns < set(TrainingJob.model_fields)


def test_a_row_without_a_path_records_no_checkpoint() -> None:
    row = SimpleNamespace(**dict.fromkeys(name_columns("best")))
    assert RecordedCheckpoint.of(row, "best") is None
