"""Rows, states and XComs of earlier versions still work, even those of jobs that run during an upgrade.

tests/end_to_end/upgrades has a folder for each of several earlier versions, named after the last schema
revision of that version. The folder holds a whole last.pt after two of three epochs, and the job's row,
identity and XCom.
"""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from include.checkpoints.inspection.inspect import inspect_file
from include.checkpoints.keys import EXACT
from include.claim.resolved_job import ResolvedJob
from include.jobs.job import StopRequest
from include.jobs.repository import JobRepository
from include.jobs.spec import SpecError, TrainingSpec
from include.schema.migrations import apply
from include.training.contract import TrainingProgress
from include.training.loading import load_checkpoint
from include.training.run import train
from tests.support import host_applications
from tests.support.jobs import recorded
from tests.support.tiny_trainings import EndsAt, recovery, request

VERSIONS = sorted(path.name for path in (Path(__file__).parent / "upgrades").iterdir())


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(version: str) -> Path:
    return Path(__file__).parent / "upgrades" / version


@pytest.fixture
def recorded_job(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "job.json").read_text(encoding="utf-8")))


def upgrade(database_url: str, version: str, row: dict[str, Any]) -> None:
    """Insert the row of a job into the tables of that version, and migrate the tables."""
    engine = host_applications.engine(database_url)
    apply(engine, version)
    values = {name: Jsonb(value) if isinstance(value, dict) else value for name, value in row.items()}
    names, places = ", ".join(values), ", ".join(f"%({name})s" for name in values)
    with psycopg.connect(database_url) as connection:
        connection.execute(f"INSERT INTO training_jobs ({names}) VALUES ({places})", values)
    apply(engine)


def test_a_state_of_an_earlier_version_is_resumed_and_then_saved_within_its_epoch(
    folder: Path, tmp_path: Path
) -> None:
    assert inspect_file(folder / "last.pt").resumable
    identity = load_checkpoint(folder / "last.pt")[EXACT]["identity"]
    training_request = request(
        "classify", tmp_path, images=18, epochs=3, save_dir=tmp_path / "run", identity=identity
    )
    weights = training_request.save_dir / "weights"
    weights.mkdir(parents=True)
    shutil.copy(folder / "last.pt", weights / "last.pt")
    shutil.copy(folder / "last.pt", weights / "best.pt")

    states = EndsAt((1, 2), (9, 9))
    result = train(recovery(training_request), states, states)

    assert (result.stop_reason, result.epoch, result.start_epoch) == ("completed", 2, 2)
    assert [(state.epoch, state.batch) for state in states.saved_states] == [(1, 2), (2, 0)]
    reason = states.reports[-1].inexact_reason
    # The result may be inexact only because this machine differs from the original one.
    assert reason is None or reason.startswith("epoch 3 continues with")


def test_a_row_of_a_running_job_is_migrated_and_its_next_attempt_begins(
    version: str, recorded_job: dict[str, Any], database_url: str
) -> None:
    upgrade(database_url, version, recorded_job["row"])
    lost, trained = (
        recorded_job["row"].get("lost_seconds", 0.0),
        recorded_job["row"].get("trained_seconds", 0.0),
    )

    with psycopg.connect(database_url) as connection:
        jobs = JobRepository(connection)
        assert jobs.start_training("old", "manual__1", 2, first_epoch=2, trained_seconds=trained) == 0
        job = recorded(jobs, "old")
        assert (job.status, job.durable_epoch, job.durable_batch) == ("running", 1, None)
        assert job.lost_seconds == lost
        assert jobs.record_progress("old", "manual__1", 2, TrainingProgress(1, 3, 5, 4.0)) is StopRequest.NONE
        jobs.record_durable("old", "manual__1", 2, 1, 3)
        assert recorded(jobs, "old").durable_batch == 3
    assert TrainingSpec.parse_stored(dict(job.spec or {})).publish_seconds == recorded_job["row"]["spec"].get(
        "publish_seconds", 60
    )


def test_a_row_that_was_running_while_its_job_waited_for_a_gpu_is_queued(
    version: str, recorded_job: dict[str, Any], database_url: str
) -> None:
    since = datetime(2026, 11, 20, 7, 30, tzinfo=UTC)
    nothing_yet = dict.fromkeys(("attempt", "epoch", "durable_epoch", "metrics"))
    upgrade(database_url, version, recorded_job["row"] | nothing_yet | {"started_at": since})

    with psycopg.connect(database_url) as connection:
        job = recorded(JobRepository(connection), "old")
        assert (job.status, job.queued_at, job.started_at) == ("queued", since, None)
        assert job.waits_for_gpu


def test_the_xcom_of_a_running_job_is_read_and_has_the_same_identity(recorded_job: dict[str, Any]) -> None:
    job = ResolvedJob.model_validate(recorded_job["xcom"])
    assert job.identity() == recorded_job["identity"]


class Later(TrainingSpec):
    """The parameters of a later version, which has two additional parameters."""

    strength: float = 0.5
    mosaic: float | None = None
    """So far only an argument of Ultralytics, which jobs give in `overrides`."""


def test_a_new_parameter_in_a_later_version_keeps_the_identity_of_a_running_job(
    recorded_job: dict[str, Any],
) -> None:
    assert (
        Later.parse_stored(recorded_job["xcom"]["spec"]).identity()
        == ResolvedJob.model_validate(recorded_job["xcom"]).spec.identity()
    )
    assert Later.parse({"strength": 0.7}).identity() == {"strength": 0.7}


def test_a_stored_override_that_became_a_parameter_is_moved_to_it() -> None:
    overrides = {"mosaic": 0.5, "cos_lr": True}
    stored = TrainingSpec.parse({"overrides": overrides}).model_dump(mode="json", exclude_unset=True)

    for read in Later.parse_stored(stored), Later.model_validate(stored):  # a row, and an XCom
        assert isinstance(read, Later)
        assert (read.mosaic, read.overrides) == (0.5, {"cos_lr": True})
        assert read.identity() == Later.parse({"mosaic": 0.5, "overrides": {"cos_lr": True}}).identity()
    with pytest.raises(SpecError, match="mosaic is a separate parameter: give it directly, not in overrides"):
        Later.parse({"overrides": overrides})


def test_a_replaced_parameter_is_refused_with_an_error_that_names_it() -> None:
    with pytest.raises(SpecError, match=r"publish_interval=30\.0 is no longer a parameter; use publish_sec"):
        TrainingSpec.parse({"publish_interval": 30.0})


def test_a_running_job_survives_a_downgrade_and_the_next_upgrade(
    version: str, recorded_job: dict[str, Any], database_url: str
) -> None:
    upgrade(database_url, version, recorded_job["row"])
    with psycopg.connect(database_url) as connection:
        jobs = JobRepository(connection)
        jobs.start_training("old", "manual__1", 2, first_epoch=2)
        jobs.record_durable("old", "manual__1", 2, 1, 3)
    engine = host_applications.engine(database_url)

    apply(engine, version, confirm_data_loss=True)

    known = {"status": "running", "attempt": 2, "durable_epoch": 1, "spec": recorded_job["row"]["spec"]}
    with psycopg.connect(database_url) as connection:
        row = connection.execute(f"SELECT {', '.join(known)} FROM training_jobs").fetchone()
    assert row == tuple(known.values())

    apply(engine)
    with psycopg.connect(database_url) as connection:
        jobs = JobRepository(connection)
        assert jobs.start_training("old", "manual__1", 3, first_epoch=2) == 0
        assert recorded(jobs, "old").durable_epoch == 1
