"""Versions have unique numbers, never change, and are found by name, in pages and by source."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from include.datasets.reference import ClassCount
from include.datasets.registered import RegisteredName
from include.registry.errors import DatasetUnknown
from include.registry.repository import DatasetRepository, Registration
from include.registry.version import WarningCount
from tests.support.registered_datasets import reference_of, register


def test_a_version_records_the_checked_data_and_who_registered_it(datasets: DatasetRepository) -> None:
    bolts = ClassCount(name="bolt", train=20, val=4, train_images=8, val_images=2)
    checked = reference_of("a", origin="s3://bucket/export.ndjson", class_table=(bolts,))
    found = WarningCount(kind="tiny", title="tiny boxes", remedy="look at them", count=2)
    who = Registration("parts", run_id="manual__1", created_by="ada", note="first\0 batch")
    version, created = datasets.register(who, checked, report="s3://bucket/report.json", warnings=[found])
    assert created
    assert datasets.get("parts", 1) == version
    shown = version.model_dump(exclude={"created_at"})
    assert shown == {
        **reference_of("a").model_dump(
            include={"fingerprint", "source", "task", "train_images", "val_images", "size"}
        ),
        "name": "parts",
        "version": 1,
        "origin": "s3://bucket/export.ndjson",
        "class_table": [bolts.model_dump()],
        "warnings": [found.model_dump()],
        "report": "s3://bucket/report.json",
        "note": "first\\x00 batch",
        "run_id": "manual__1",
        "created_by": "ada",
        "archived_at": None,
    }


def test_content_equal_to_the_newest_version_does_not_create_a_version(datasets: DatasetRepository) -> None:
    first = register(datasets, "parts", "a")
    for again in (reference_of("a"), reference_of("a", source="s3://elsewhere/")):
        assert datasets.register(Registration("parts", run_id="run2"), again) == (first, False)
    second = register(datasets, "parts", "b")
    assert (second.version, register(datasets, "parts", "a").version) == (2, 3)
    assert register(datasets, "parts", "a", task="segment").version == 4
    assert register(datasets, "others", "a").version == 1


def test_a_repeated_run_finds_the_version_that_it_has_registered(datasets: DatasetRepository) -> None:
    who = Registration("parts", run_id="run1")
    first, _ = datasets.register(who, reference_of("a"))
    register(datasets, "parts", "b")
    assert datasets.register(who, reference_of("a")) == (first, True)
    third, created = datasets.register(who, reference_of("c"))  # as if cleared after the data changed
    assert (third.version, created) == (3, True)


def test_versions_that_are_registered_simultaneously_get_different_numbers(
    migrated_url: str, datasets: DatasetRepository
) -> None:
    def race(content: str) -> int:
        with psycopg.connect(migrated_url) as connection:
            return register(DatasetRepository(connection), "parts", content).version

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(race, "0123456789abcdef")) == list(range(1, 17))
        assert set(threads.map(race, "ffffffff")) <= {*range(1, 18)}
    assert len(datasets.list_versions("parts")) <= 17


def test_concurrent_registrations_of_the_same_content_create_one_version(
    migrated_url: str, datasets: DatasetRepository
) -> None:
    def race(_: int) -> int:
        with psycopg.connect(migrated_url) as connection:
            return register(DatasetRepository(connection), "parts", "a").version

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(race, range(8))) == {1}
    assert [version.version for version in datasets.list_versions("parts")] == [1]


def test_a_number_is_not_used_again(datasets: DatasetRepository, connection: psycopg.Connection[Any]) -> None:
    register(datasets, "parts", "a")
    register(datasets, "parts", "b")
    connection.execute("DELETE FROM datasets")
    assert register(datasets, "parts", "c").version == 3


def test_a_name_stands_for_the_newest_version_that_is_not_archived(datasets: DatasetRepository) -> None:
    for content in "abc":
        register(datasets, "parts", content)
    newest = RegisteredName("parts", None)
    assert datasets.require(newest).version == 3
    archived = datasets.set_archived("parts", 3, archived=True)
    assert datasets.set_archived("parts", 3, archived=True).archived_at == archived.archived_at is not None
    assert datasets.require(newest).version == 2
    assert datasets.require(RegisteredName("parts", 3)) == archived
    for version in (1, 2):
        datasets.set_archived("parts", version, archived=True)
    with pytest.raises(DatasetUnknown, match=r"'parts' has only archived versions \(3, 2, 1\): name one of"):
        datasets.require(newest)
    datasets.set_archived("parts", 1, archived=False)
    assert datasets.require(newest).version == 1


def test_an_unknown_name_or_version_is_refused_with_the_known_ones(datasets: DatasetRepository) -> None:
    with pytest.raises(DatasetUnknown, match="dataset='parts' is not registered: none is registered yet"):
        datasets.require(RegisteredName("parts", None))
    register(datasets, "parts", "a")
    register(datasets, "bolts", "a")
    with pytest.raises(
        DatasetUnknown, match="'partz@1' is not registered: the registered datasets are bolts, parts"
    ):
        datasets.require(RegisteredName("partz", 1))
    with pytest.raises(DatasetUnknown, match="'parts@9' is not registered: the versions of parts are 1"):
        datasets.require(RegisteredName("parts", 9))
    with pytest.raises(DatasetUnknown):
        datasets.set_archived("parts", 9, archived=True)


def test_datasets_are_listed_in_pages_the_last_changed_first(datasets: DatasetRepository) -> None:
    for name in ("a_1", "ab1", "b"):
        register(datasets, name, "a")
    register(datasets, "a_1", "b")
    datasets.set_archived("b", 1, archived=True)
    datasets.set_archived("a_1", 2, archived=True)

    pages, before = [], None
    while page := datasets.list(limit=1, before=before):
        pages += [(str(each.newest), each.versions) for each in page]
        before = page[-1].position
    assert pages == [("a_1@1", 2), ("b@1", 1), ("ab1@1", 1)]
    assert [each.newest.name for each in datasets.list("a_")] == ["a_1"]
    assert [each.newest.name for each in datasets.list(archived=True)] == ["b"]
    assert [each.newest.name for each in datasets.list(archived=False)] == ["a_1", "ab1"]
    assert [version.version for version in datasets.list_versions("a_1", before=2)] == [1]


def test_datasets_are_found_by_the_sources_of_their_data(datasets: DatasetRepository) -> None:
    register(datasets, "moved", "a", source="s3://bucket/old/")
    register(datasets, "moved", "b", source="s3://bucket/new/")
    register(datasets, "converted", "a", source="s3://bucket/datasets/a/data.yaml", origin="s3://bucket/new")
    assert [str(version) for version in datasets.find_at_source("s3://bucket/new/")] == [
        "converted@1",
        "moved@2",
    ]
    assert [str(version) for version in datasets.find_at_source("s3://bucket/old/")] == ["moved@1"]
    datasets.set_archived("moved", 2, archived=True)
    assert [str(version) for version in datasets.find_at_source("s3://bucket/new", "moved")] == ["moved@2"]
    assert datasets.find_at_source("s3://bucket/none/") == []
