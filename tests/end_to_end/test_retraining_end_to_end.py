"""New data → asset → retraining → approval → promotion, a refusal, a rollback: on the real scheduler."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from include.deployment.settings import DEFAULT_BUCKET
from include.models.promotion import register_copy
from include.models.repository import ModelRepository
from include.models.version import ModelVersion, Stage
from include.s3.bucket import Bucket
from tests.support.airflow_client import Airflow
from tests.support.dataset_steps import upload_files
from tests.support.model_keys import signing_of
from tests.support.model_versions import promote_over_present, trained
from tests.support.retrain_plans import SHAPES, START
from tests.support.secrets_kept import places_of, secrets_of
from tests.support.stored_objects import body, replace
from tests.support.tiny_datasets import build
from tests.support.tiny_models import IMAGES, architecture
from tests.support.untrained import best
from tests.support.waiting import until

if TYPE_CHECKING:
    from include.stack.local import Stack

pytestmark = pytest.mark.timeout(600)

DAG = "retrain_yolo__shapes"


@pytest.fixture(scope="module", autouse=True)
def on_schedule(api: Airflow) -> Iterator[None]:
    for dag_id in (DAG, "watch_dataset"):
        api.pause(dag_id, paused=False)
    yield
    for dag_id in (DAG, "watch_dataset"):
        api.pause(dag_id, paused=True)


def versions(stack: Stack) -> list[ModelVersion]:
    """All versions of the plan's model, the newest first."""
    with psycopg.connect(stack.training_db_url) as connection:
        return list(ModelRepository(connection).list("shapes"))


def production(stack: Stack) -> bytes:
    return body(stack.s3.client(), f"s3://{DEFAULT_BUCKET}/models/shapes/production/best.pt")


@pytest.fixture(scope="module")
def first_champion(
    api: Airflow, airflow_stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> ModelVersion:
    """Version 1, in production: a model that was never trained."""
    folder = tmp_path_factory.mktemp("first")
    weights = best("detect", folder / "best.pt", architecture=architecture(folder))
    client = airflow_stack.s3.client()
    replace(client, START, weights.read_bytes(), {})
    with psycopg.connect(airflow_stack.training_db_url) as connection:
        trained(connection, client, DEFAULT_BUCKET, "shapes-by-chance", weights.read_bytes())
        register_copy(
            connection, Bucket(client, DEFAULT_BUCKET), "shapes", job_id="shapes-by-chance", run_id="none"
        )
        return promote_over_present(
            connection,
            Bucket(client, DEFAULT_BUCKET),
            "shapes",
            1,
            by="ada",
            reason="there was nothing",
            signing=signing_of(airflow_stack),
        )


@pytest.fixture(scope="module")
def retrained(
    api: Airflow, airflow_stack: Stack, first_champion: ModelVersion, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Return the id of a run that new data have started; its model was approved, and the run has ended."""
    folder = build("detect", tmp_path_factory.mktemp("new") / "data", train=IMAGES, val=8).parent
    upload_files(airflow_stack.s3.client(), DEFAULT_BUCKET, folder, "datasets/shapes/")
    api.run("watch_dataset", {"dataset": SHAPES})
    until(lambda: bool(api.runs(DAG)), "a run that the announced data have started")
    (run_id,) = api.runs(DAG)
    until(
        lambda: api.tasks(DAG, run_id).get("ask_approval") == "awaiting_input" or api.ended(DAG, run_id),
        "the question whether to promote",
        seconds=420,
    )
    assert not api.ended(DAG, run_id), api.tasks(DAG, run_id)

    def answered() -> bool:
        # Wait, like a person who reads first: if the answer resumes the task before Airflow 3.3's
        # scheduler has seen the asking process end, the scheduler takes that end for a failure of the
        # resumed task (apache/airflow#72716).
        if api.tasks(DAG, run_id).get("ask_approval") == "awaiting_input":
            time.sleep(5 * api.attempt(DAG, run_id, "ask_approval")[1])
            api.answer(DAG, run_id, "ask_approval", "Promote")
        return api.ended(DAG, run_id)

    until(answered, "the end of the approved run")
    api.succeeds(DAG, run_id)
    return run_id


def test_new_data_bring_a_better_model_into_production(
    api: Airflow, airflow_stack: Stack, first_champion: ModelVersion, retrained: str
) -> None:
    assert set(api.tasks(DAG, retrained).values()) == {"success"}
    promoted, before = versions(airflow_stack)
    assert (promoted.version, promoted.stage) == (2, Stage.PRODUCTION)
    assert (before.version, before.stage) == (1, Stage.ARCHIVED)
    assert (promoted.champion_version, promoted.promoted_by) == (1, airflow_stack.username)
    metric = "metrics/mAP50-95(B)"
    assert promoted.metrics is not None
    assert promoted.champion_metrics is not None
    assert promoted.metrics[metric] - promoted.champion_metrics[metric] >= 0.01
    assert promoted.metrics.keys() == promoted.champion_metrics.keys() >= {"classes/box", "classes/arrow"}
    assert (promoted.reason or "").startswith(f"{metric} went from ")
    assert api.announced(retrained) == {
        "production-model": promoted.model_dump(include={"name", "version", "path", "sha256", "job_id"})
    }
    with psycopg.connect(airflow_stack.training_db_url) as connection:
        row = connection.execute(
            "SELECT spec->>'model', status FROM training_jobs WHERE job_id = %s", [promoted.job_id]
        ).fetchone()
    assert row == (first_champion.path, "completed")
    assert production(airflow_stack) == body(airflow_stack.s3.client(), promoted.path)
    signature = body(airflow_stack.s3.client(), promoted.signature_path)
    signing_of(airflow_stack).trusted.verify(signature, promoted)


def test_unchanged_data_are_not_announced_again(api: Airflow, airflow_stack: Stack, retrained: str) -> None:
    run_id = api.run("watch_dataset", {"dataset": SHAPES})
    assert api.tasks("watch_dataset", run_id)["announce"] == "skipped"
    assert api.runs(DAG) == [retrained]


def test_nothing_is_trained_with_the_data_and_parameters_of_the_champion(
    api: Airflow, airflow_stack: Stack, retrained: str
) -> None:
    run_id = api.run("retrain_yolo", {"plan": "shapes"})
    tasks = api.tasks("retrain_yolo", run_id)
    assert {name for name, state in tasks.items() if state == "success"} == {"resolve_plan", "check_dataset"}
    note = api.note("retrain_yolo", run_id) or ""
    assert "data and parameters are the same as for version 2 of model shapes, which is in production" in note
    assert len(versions(airflow_stack)) == 2


def test_new_data_are_noticed_even_if_other_data_were_announced_before_them(
    api: Airflow, retrained: str
) -> None:
    before = set(api.runs(DAG))
    api.set_slots("default_pool", 0)
    try:
        active = api.trigger(DAG, {})  # Airflow triggers no run of this Dag until this one has ended
        for dataset in ("s3://elsewhere/", SHAPES):
            api.announce("training-dataset", {"dataset": dataset})
    finally:
        api.set_slots("default_pool", 128)
    api.succeeds(DAG, active)
    until(lambda: len(set(api.runs(DAG)) - before) == 2, "the run that the events have triggered")
    (run_id,) = set(api.runs(DAG)) - before - {active}
    api.succeeds(DAG, run_id)
    assert api.tasks(DAG, run_id)["resolve_plan"] == "success"


@pytest.fixture(scope="module")
def worse(
    api: Airflow, airflow_stack: Stack, retrained: str, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Return the id of a run whose training run fails at first, and learns nothing when it is retried."""
    client = airflow_stack.s3.client()
    whole = body(client, START)
    # A checkpoint that can be loaded safely, but that training refuses because it is for another task.
    other = best("classify", tmp_path_factory.mktemp("other") / "best.pt")
    replace(client, START, other.read_bytes(), {})
    parameters: dict[str, Any] = {"epochs": 1, "lr0": 1e-7}
    conf = {"plan": "shapes", "start_from": "scratch", "parameters": parameters}
    run_id = api.trigger("retrain_yolo", conf)
    assert api.wait("retrain_yolo", run_id) == "failed"
    tasks = api.tasks("retrain_yolo", run_id)
    assert (tasks["wait_for_training"], tasks["evaluate"]) == ("failed", "upstream_failed")
    replace(client, START, whole, {})
    api.clear("retrain_yolo", run_id, "trigger_training")
    api.succeeds("retrain_yolo", run_id)
    return run_id


@pytest.mark.long
def test_a_failed_training_run_resumes_in_the_same_run_and_job(
    api: Airflow, airflow_stack: Stack, worse: str
) -> None:
    job_id = versions(airflow_stack)[0].job_id
    assert [run_id for run_id in api.runs("train_yolo") if job_id in run_id] == [f"retrain__{job_id}"]
    assert api.attempt("train_yolo", f"retrain__{job_id}", "resolve_config")[1] == 2


@pytest.mark.long
def test_a_worse_challenger_is_refused_with_its_reason(
    api: Airflow, airflow_stack: Stack, worse: str
) -> None:
    tasks = api.tasks("retrain_yolo", worse)
    assert {name for name, state in tasks.items() if state != "success"} == {"promote"}
    assert tasks["promote"] == "skipped"
    refused, champion, _ = versions(airflow_stack)
    assert (refused.stage, champion.stage) == (Stage.REJECTED, Stage.PRODUCTION)
    assert refused.champion_version == champion.version
    assert refused.reason is not None
    assert "but the gate requires at least +0.0100" in refused.reason
    assert refused.reason in (api.note("retrain_yolo", worse) or "")
    assert production(airflow_stack) == body(airflow_stack.s3.client(), champion.path)


@pytest.mark.long
def test_a_refused_training_run_is_not_repeated_with_the_parameters_of_a_changed_plan(
    api: Airflow, airflow_stack: Stack, retrained: str
) -> None:
    client, plans = airflow_stack.s3.client(), Path(os.environ["RETRAIN_PLANS"])
    weights, written = body(client, START), plans.read_text(encoding="utf-8")
    client.delete_object(Bucket=DEFAULT_BUCKET, Key=START.removeprefix(f"s3://{DEFAULT_BUCKET}/"))
    run_id = api.trigger("retrain_yolo", {"plan": "shapes", "start_from": "scratch"})
    assert api.wait("retrain_yolo", run_id) == "failed"
    assert api.tasks("retrain_yolo", run_id)["wait_for_training"] == "failed"
    replace(client, START, weights, {})
    plans.write_text(written.replace("epochs: 25", "epochs: 24"), encoding="utf-8")
    try:
        api.clear("retrain_yolo", run_id, "resolve_plan")
        assert api.wait("retrain_yolo", run_id) == "failed"
    finally:
        plans.write_text(written, encoding="utf-8")
    assert api.tasks("retrain_yolo", run_id)["trigger_training"] == "failed"
    assert "the champion have changed since then" in api.log("retrain_yolo", run_id, "trigger_training", 2)


def test_an_earlier_version_is_restored_by_one_trigger(
    api: Airflow, airflow_stack: Stack, first_champion: ModelVersion, retrained: str
) -> None:
    api.run("promote_model", {"name": "shapes"})
    (now,) = [each for each in versions(airflow_stack) if each.stage == Stage.PRODUCTION]
    assert now.version == 1
    assert production(airflow_stack) == body(airflow_stack.s3.client(), first_champion.path)


def test_the_records_that_airflow_keeps_of_runs_contain_no_secret(airflow_stack: Stack) -> None:
    # This test is the last one in the file, so that it sees all runs of the file.
    assert places_of(airflow_stack, secrets_of(airflow_stack)) == []
