"""The training run of a retraining, its starting weights, and cases in which it is not worth a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from include.datasets.reference import DatasetReference
from include.jobs.repository import JobRepository
from include.models.repository import ModelRepository
from include.retraining.plans import PlanError
from include.tasks.retrain_yolo import NothingToDo, build_challenge
from tests.support.jobs import claim
from tests.support.model_versions import registered
from tests.support.retrain_plans import plan
from tests.support.retrainings import DATA, retraining

if TYPE_CHECKING:
    from include.models.version import ModelVersion
    from include.retraining.plans import RetrainPlan


@pytest.fixture
def data_reference() -> DatasetReference:
    return DatasetReference(
        source="digits", task="detect", fingerprint=DATA, train_images=2, val_images=1, classes={}, size=1
    )


def in_production(models: ModelRepository, plan: RetrainPlan, data: str = DATA) -> ModelVersion:
    """Return a version of the plan's model that was trained on these data, and promoted."""
    fingerprints = {"dataset_fingerprint": data, "parameters_fingerprint": plan.compute_fingerprint()}
    version = registered(models, f"job-{len(models.list())}", plan.name, **fingerprints)
    return models.promote(plan.name, version.version, by="ada", reason="better")


def test_the_first_training_begins_from_scratch_and_is_named_after_the_run(
    models: ModelRepository, jobs: JobRepository, data_reference: DatasetReference
) -> None:
    challenge = build_challenge(retraining(plan(model="yolo11s")), data_reference, models, jobs)
    assert (challenge.job_id, challenge.run_id) == ("good-1", "retrain__good-1")
    assert challenge.conf.items() >= {
        "job_id": "good-1", "dataset": "digits", "task": "detect", "model": "yolo11s", "epochs": 3
    }.items()  # fmt: skip


@pytest.mark.parametrize("start_from", ["champion", "scratch"])
def test_later_training_runs_begin_from_the_weights_that_the_plan_names(
    start_from: str, models: ModelRepository, jobs: JobRepository, data_reference: DatasetReference
) -> None:
    planned = plan(start_from=start_from, model="yolo11s")
    champion = in_production(models, planned, data="of last week")
    challenge = build_challenge(retraining(planned), data_reference, models, jobs)
    assert challenge.conf["model"] == (champion.path if start_from == "champion" else "yolo11s")


def test_nothing_is_trained_again_with_the_champions_data_and_parameters(
    models: ModelRepository, jobs: JobRepository, data_reference: DatasetReference
) -> None:
    in_production(models, plan())
    with pytest.raises(
        NothingToDo, match="are the same as for version 1 of model good, which is in production"
    ):
        build_challenge(retraining(plan()), data_reference, models, jobs)
    assert build_challenge(retraining(plan(), force=True), data_reference, models, jobs)
    assert build_challenge(retraining(plan(parameters={"epochs": 4})), data_reference, models, jobs)
    other = data_reference.model_copy(update={"fingerprint": "e" * 64})
    assert build_challenge(retraining(plan()), other, models, jobs)


def test_a_rejected_challenge_is_not_repeated_until_the_champion_changes(
    models: ModelRepository, jobs: JobRepository, data_reference: DatasetReference
) -> None:
    in_production(models, plan(), data="of last week")
    tried = {"dataset_fingerprint": DATA, "parameters_fingerprint": plan().compute_fingerprint()}
    registered(models, "good-1", "good", champion_version=1, **tried)
    # A version that waits for approval, or whose run has crashed, has not been rejected yet.
    assert build_challenge(retraining(plan(), "good-2"), data_reference, models, jobs)
    models.reject("good", 2, "no gain")
    for number in range(100):  # more versions than a page of the list holds
        registered(models, f"other-{number}", "good")
    with pytest.raises(NothingToDo, match=r"version 2 of model good, which was already rejected \(no gain\)"):
        build_challenge(retraining(plan(), "good-2"), data_reference, models, jobs)
    assert build_challenge(
        retraining(plan(), "good-1"), data_reference, models, jobs
    )  # the run itself, cleared
    assert build_challenge(retraining(plan(), "good-2", force=True), data_reference, models, jobs)
    in_production(models, plan(), data="of yesterday")
    assert build_challenge(retraining(plan(), "good-2"), data_reference, models, jobs)


def test_a_version_that_was_rolled_back_is_not_trained_again_until_the_champion_or_the_data_change(
    models: ModelRepository, jobs: JobRepository, data_reference: DatasetReference
) -> None:
    in_production(models, plan(), data="of last week")
    tried = {"dataset_fingerprint": DATA, "parameters_fingerprint": plan().compute_fingerprint()}
    registered(models, "good-1", "good", champion_version=1, **tried)
    for version in (2, 1):
        models.promote("good", version, by="ada", reason="2 misses the sevens")
    with pytest.raises(NothingToDo, match="which was in production until it was rolled back to version 1 of"):
        build_challenge(retraining(plan(), "good-2"), data_reference, models, jobs)
    assert build_challenge(retraining(plan(), "good-2", force=True), data_reference, models, jobs)
    other = data_reference.model_copy(update={"fingerprint": "e" * 64})
    assert build_challenge(retraining(plan(), "good-2"), other, models, jobs)
    in_production(models, plan(), data="of yesterday")
    assert build_challenge(retraining(plan(), "good-2"), data_reference, models, jobs)


def test_a_cleared_run_continues_its_training_run(
    models: ModelRepository, jobs: JobRepository, data_reference: DatasetReference
) -> None:
    first = in_production(models, plan(), data="of last week")
    begun = build_challenge(retraining(plan()), data_reference, models, jobs)
    spec = {name: value for name, value in begun.conf.items() if name != "job_id"}
    claim(jobs, "good-1", "retrain__good-1", spec=spec)
    in_production(models, plan(), data="of yesterday")
    again = build_challenge(retraining(plan()), data_reference, models, jobs)
    assert again == begun
    assert again.conf["model"] == first.path
    with pytest.raises(PlanError, match=r"changed \(epochs\) since this run started job good-1"):
        build_challenge(retraining(plan(parameters={"epochs": 9})), data_reference, models, jobs)
