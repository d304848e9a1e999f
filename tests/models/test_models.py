"""Model versions: one for each job, numbered without gaps, at most one in production; on PostgreSQL."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from include.models.errors import NotRegistered, PromotionRefused, VersionUnknown
from include.models.repository import ModelRepository
from include.models.version import ModelVersion, Stage
from tests.support.model_versions import registered


def promoted(models: ModelRepository, version: int) -> ModelVersion:
    return models.promote("digits", version, by="ada", reason=None)


def test_a_version_is_recorded_with_all_its_details(models: ModelRepository) -> None:
    version = registered(
        models,
        "a",
        dataset="digits",
        dataset_fingerprint="data",
        parameters_fingerprint="parameters",
        metrics={"mAP50": 0.9, "classes": {"7": math.nan}},
        champion_version=3,
        champion_metrics={"mAP50": 0.8},
        reason="better by 0.1",
    )
    assert version == models.require("digits", 1)
    assert version.model_dump(exclude={"created_at"}) == {
        "name": "digits",
        "version": 1,
        "job_id": "a",
        "run_id": "run1",
        "stage": "candidate",
        "path": "s3://bucket/models/digits/versions/1/best.pt",
        "sha256": "a" * 64,
        "size": 5_000_000,
        "dataset": "digits",
        "dataset_fingerprint": "data",
        "parameters_fingerprint": "parameters",
        "metrics": {"mAP50": 0.9, "classes": {"7": None}},
        "champion_version": 3,
        "champion_metrics": {"mAP50": 0.8},
        "reason": "better by 0.1",
        "promoted_by": None,
        "promoted_at": None,
        "signature_sha256": None,
    }
    assert version.created_at.tzinfo is not None


def test_each_model_counts_its_own_versions(models: ModelRepository) -> None:
    assert [registered(models, job).version for job in "abc"] == [1, 2, 3]
    assert registered(models, "a", name="gears").version == 1


def test_a_job_is_registered_once(models: ModelRepository) -> None:
    first = registered(models, "a", reason="first")

    def place(version: int) -> str:
        raise AssertionError("its file is there already")

    assert registered(models, "a", reason="second", place=place) == first


def test_a_job_that_was_trained_again_needs_a_new_id(models: ModelRepository) -> None:
    first = registered(models, "a")
    with pytest.raises(
        NotRegistered, match="Job a is already version 1 of model digits, with a different file"
    ):
        registered(models, "a", sha256="b" * 64)
    assert models.list() == [first]


def test_a_failed_copy_of_a_version_leaves_no_row_and_frees_its_number(
    models: ModelRepository,
) -> None:
    registered(models, "a")

    def place(version: int) -> str:
        raise ConnectionError(f"S3 is away, no place for {version}")

    with pytest.raises(ConnectionError, match="no place for 2"):
        registered(models, "b", place=place)
    assert registered(models, "c").version == 2


@pytest.mark.parametrize("same_job", [False, True])
def test_concurrent_registrations_get_different_numbers(
    models: ModelRepository, migrated_url: str, same_job: bool
) -> None:
    start = threading.Barrier(8)
    placed: list[int] = []

    def place(version: int) -> str:
        placed.append(version)
        return f"s3://bucket/models/digits/versions/{version}/best.pt"

    def register(number: int) -> ModelVersion:
        with psycopg.connect(migrated_url) as own:
            start.wait()
            job_id = "same" if same_job else f"job-{number}"
            return registered(ModelRepository(own), job_id, place=place)

    with ThreadPoolExecutor(8) as threads:
        versions = list(threads.map(register, range(8)))
    numbers = [1] if same_job else [1, 2, 3, 4, 5, 6, 7, 8]
    assert placed == numbers
    assert sorted({version.version for version in versions}) == numbers
    assert [version.version for version in reversed(models.list())] == numbers
    assert all(f"/versions/{version.version}/" in version.path for version in versions)


def test_the_database_refuses_a_second_version_in_production(
    models: ModelRepository, connection: psycopg.Connection[Any]
) -> None:
    for job in "ab":
        registered(models, job)
    registered(models, "a", name="gears")
    connection.execute("UPDATE model_versions SET stage = 'production' WHERE version = 1")
    with pytest.raises(psycopg.errors.UniqueViolation, match="model_versions_production"):
        connection.execute("UPDATE model_versions SET stage = 'production' WHERE version = 2")


def test_the_database_refuses_an_unknown_stage(
    models: ModelRepository, connection: psycopg.Connection[Any]
) -> None:
    registered(models, "a")
    with pytest.raises(psycopg.errors.CheckViolation, match="model_versions_stage"):
        connection.execute("UPDATE model_versions SET stage = 'live'")


def test_a_promotion_archives_the_version_that_was_in_production(models: ModelRepository) -> None:
    for job in "ab":
        registered(models, job, reason="as registered")
    assert models.find_production("digits") is None
    first = promoted(models, 1)
    assert (first.stage, first.promoted_by, first.reason) == (Stage.PRODUCTION, "ada", "as registered")
    second = models.promote("digits", 2, by="eve", reason="because")
    assert (second.stage, second.promoted_by, second.reason) == (Stage.PRODUCTION, "eve", "because")
    assert models.find_production("digits") == second
    assert models.require("digits", 1) == first.model_copy(update={"stage": Stage.ARCHIVED})


def test_versions_are_listed_in_pages_the_newest_first(models: ModelRepository) -> None:
    for job, name in zip("abcde", ["digits", "gears", "digits", "gears", "digits"], strict=True):
        registered(models, job, name=name)
    pages = []
    before = None
    while page := models.list(limit=2, before=before):
        pages.append("".join(version.job_id for version in page))
        before = (page[-1].name, page[-1].version)
    assert pages == ["ed", "cb", "a"]
    assert [version.job_id for version in models.list("gears")] == ["d", "b"]
    assert str(models.explain_unknown("bolts")).endswith("give one of digits, gears")
    promoted(models, 2)
    assert [version.job_id for version in models.list(stage=Stage.PRODUCTION)] == ["c"]


def test_a_candidate_is_refused_with_a_reason(models: ModelRepository) -> None:
    registered(models, "a")
    models.reject("digits", 1, "class 7 falls by 0.2")
    refused = models.reject("digits", 1, "class 7 falls by 0.3")
    assert (refused.stage, refused.reason) == (Stage.REJECTED, "class 7 falls by 0.3")


@pytest.mark.parametrize("then", ["production", "archived"])
def test_a_promoted_version_is_not_rejected_afterwards(models: ModelRepository, then: str) -> None:
    for job in "ab":
        registered(models, job)
    promoted(models, 1)
    if then == "archived":
        promoted(models, 2)
    with pytest.raises(PromotionRefused, match=f"stage of version 1 of model digits is {then}"):
        models.reject("digits", 1, "worse")
    assert models.require("digits", 1).stage == then


def test_an_unknown_version_is_refused_with_the_existing_ones(models: ModelRepository) -> None:
    with pytest.raises(
        VersionUnknown, match="name='digits' is not a registered model: none is registered yet"
    ):
        models.require("digits", 1)
    for job in "ab":
        registered(models, job)
    with pytest.raises(VersionUnknown, match="name='digist' is not a registered model: give one of digits"):
        models.require("digist", 1)
    none = "version=3 of model digits does not exist: its versions are 1 to 2"
    with pytest.raises(VersionUnknown, match=none):
        models.require("digits", 3)
    with pytest.raises(VersionUnknown, match=none):
        models.reject("digits", 3, "worse")


def test_promoting_an_unknown_version_does_not_change_production(models: ModelRepository) -> None:
    registered(models, "a")
    present = promoted(models, 1)
    with pytest.raises(VersionUnknown):
        promoted(models, 2)
    assert models.find_production("digits") == present


@pytest.mark.parametrize(
    ("promotions", "back"),
    [
        ([], None),
        ([1], None),
        ([1, 2], 1),
        ([1, 2, 3], 2),
        ([1, 3], 1),
        ([1, 2, 3, 2], 1),  # version 3 was rolled back
        ([1, 2, 3, 1], None),
        ([1, 2, 3, 2, 4], 2),  # version 3 is newer than 2, but 2 was in production later
    ],
)
def test_a_rollback_goes_to_the_older_version_that_was_in_production_last(
    models: ModelRepository, promotions: list[int], back: int | None
) -> None:
    for job in "abcd":
        registered(models, job)
    for version in promotions:
        promoted(models, version)
    earlier = models.find_earlier("digits")
    assert (earlier.version if earlier else None) == back
