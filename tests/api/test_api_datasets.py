"""Registered datasets over REST: versions and their differences, archiving, and deleting unused versions."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import requests

from include.datasets.reference import ClassCount, DatasetVersionName
from include.jobs.repository import JobRepository
from include.registry.difference import store_difference
from include.registry.manifests import store_manifest
from include.registry.repository import DatasetRepository
from include.s3.bucket import Bucket
from tests.support.jobs import claim
from tests.support.registered_datasets import register

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Ask = Callable[..., requests.Response]


@pytest.fixture
def ask_datasets(api_url: str) -> Ask:
    def send(method: str, path: str, **options: Any) -> requests.Response:
        return requests.request(method, f"{api_url}/datasets{path}", timeout=60, **options)

    return send


def _manifest(bucket: Bucket, folder: Path, content: str, names: list[str], label: str = "l") -> None:
    """Store the manifest that a check of that content would have written."""
    file = folder / "manifest"
    with gzip.open(file, "wt") as packed:
        for name in names:
            line = {"split": "train", "name": name, "image": name[0] * 64, "label": label * 64}
            packed.write(json.dumps(line | {"width": 64, "height": 64, "classes": {}}) + "\n")
    store_manifest(bucket, file, content * 64, "detect")


def test_datasets_and_versions_are_listed_in_pages(ask_datasets: Ask, datasets: DatasetRepository) -> None:
    for content in "abc":
        register(datasets, "parts", content)
    register(datasets, "bolts", "a")
    datasets.set_archived("parts", 3, archived=True)
    first = ask_datasets("GET", "", params={"limit": 1}).json()
    assert [(each["newest"]["name"], each["versions"]) for each in first["datasets"]] == [("bolts", 1)]
    second = ask_datasets("GET", "", params={"limit": 1, "cursor": first["next"]}).json()
    assert [each["newest"]["version"] for each in second["datasets"]] == [2]
    assert second["next"] is None
    assert (
        ask_datasets("GET", "", params={"prefix": "p", "archived": "false"}).json()["datasets"]
        == second["datasets"]
    )
    assert ask_datasets("GET", "", params={"archived": "true"}).json()["datasets"] == []
    assert ask_datasets("GET", "", params={"cursor": "x"}).status_code == 422

    page = ask_datasets("GET", "/parts", params={"limit": 2}).json()
    assert ([each["version"] for each in page["versions"]], page["next"]) == ([3, 2], 2)
    rest = ask_datasets("GET", "/parts", params={"limit": 2, "before": 2}).json()
    assert ([each["version"] for each in rest["versions"]], rest["next"]) == ([1], None)
    assert "class_table" not in rest["versions"][0]
    missing = ask_datasets("GET", "/partz")
    assert (missing.status_code, missing.json()["detail"]) == (
        404,
        "name='partz' is not a registered dataset.",
    )


def test_a_version_shows_its_classes_and_the_jobs_that_were_trained_on_it(
    ask_datasets: Ask, datasets: DatasetRepository, jobs: JobRepository
) -> None:
    bolts = ClassCount(name="bo\u202elt", train=20, val=4, train_images=8, val_images=2)
    register(datasets, "parts", "a", class_table=(bolts,))
    register(datasets, "parts", "b")
    for version, job_id in ((1, "first"), (1, "second"), (2, "other")):
        claim(jobs, job_id, dataset=DatasetVersionName(name="parts", version=version))
    shown = ask_datasets("GET", "/parts/versions/1").json()
    assert shown["class_table"][0]["name"] == "bo\\u202elt"
    assert [job["job_id"] for job in shown["jobs"]] == ["second", "first"]
    assert shown["jobs"][0] | {"created_at": None} == {
        "job_id": "second",
        "status": "queued",
        "created_at": None,
        "triggered_by": "ada",
    }
    assert ask_datasets("GET", "/parts/versions/3").status_code == 404
    assert ask_datasets("GET", "/parts/versions/0").status_code == 422


def test_the_difference_between_two_versions_is_computed_once(
    ask_datasets: Ask, datasets: DatasetRepository, s3_client: S3Client, bucket: str, tmp_path: Path
) -> None:
    def classes(*counts: int) -> tuple[ClassCount, ...]:
        names = ("bolt", "nut")
        return tuple(
            ClassCount(name=name, train=count, val=1, train_images=1, val_images=1)
            for name, count in zip(names, counts, strict=False)
        )

    register(datasets, "parts", "a", class_table=classes(3))
    register(datasets, "parts", "b", class_table=classes(3, 5))
    base = {"params": {"base": 1}}
    unknown = ask_datasets("GET", "/parts/versions/2/difference", **base).json()
    assert unknown["files"] is None  # no manifests are stored, as in an earlier release

    kept = Bucket(s3_client, bucket)
    _manifest(kept, tmp_path, "a", ["1.jpg", "2.jpg"])
    _manifest(kept, tmp_path, "b", ["2.jpg", "3.jpg", "4.jpg"])
    found = ask_datasets("GET", "/parts/versions/2/difference", **base).json()
    assert (found["base"], found["version"]) == (1, 2)
    assert {kind: changes["count"] for kind, changes in found["files"].items()} == {
        "added": 2,
        "removed": 1,
        "changed": 0,
        "labels_changed": 0,
        "moved": 0,
    }
    assert [change["name"] for change in found["classes"]["changes"]] == ["nut"]
    back = ask_datasets("GET", "/parts/versions/1/difference", params={"base": 2}).json()
    assert (back["files"]["added"]["count"], back["classes"]["removed"]) == (1, 1)

    store_difference(kept, *reversed(datasets.list_versions("parts")))
    for content in "ab":
        kept.delete(f"datasets/manifests/{content * 64}-detect.jsonl.gz")
    assert ask_datasets("GET", "/parts/versions/2/difference", **base).json() == found
    assert ask_datasets("GET", "/parts/versions/2/difference", params={"base": 9}).status_code == 404
    assert ask_datasets("GET", "/parts/versions/2/difference").status_code == 422


def test_a_comparison_of_versions_that_would_take_too_long_is_refused(
    ask_datasets: Ask, datasets: DatasetRepository
) -> None:
    register(datasets, "parts", "a", train_images=200_000)
    register(datasets, "parts", "b", train_images=200_000)
    answer = ask_datasets("GET", "/parts/versions/2/difference", params={"base": 1})
    assert answer.status_code == 409
    assert "parts@1 and parts@2 have 400,004 images" in answer.json()["detail"]


def test_archiving_a_version_makes_an_older_one_the_newest(
    ask_datasets: Ask, datasets: DatasetRepository
) -> None:
    register(datasets, "parts", "a")
    register(datasets, "parts", "b")
    archived = ask_datasets("POST", "/parts/versions/2/archive").json()
    assert archived["archived_at"] is not None
    assert ask_datasets("POST", "/parts/versions/2/archive").json() == archived
    assert ask_datasets("GET", "", params={}).json()["datasets"][0]["newest"]["version"] == 1
    assert ask_datasets("POST", "/parts/versions/2/restore").json()["archived_at"] is None
    assert ask_datasets("GET", "", params={}).json()["datasets"][0]["newest"]["version"] == 2
    assert ask_datasets("POST", "/parts/versions/3/restore").status_code == 404


def test_a_version_that_a_job_was_trained_on_is_kept(
    ask_datasets: Ask, datasets: DatasetRepository, jobs: JobRepository
) -> None:
    register(datasets, "parts", "a")
    claim(jobs, dataset=DatasetVersionName(name="parts", version=1))
    answer = ask_datasets("DELETE", "/parts/versions/1")
    assert answer.status_code == 409
    assert "parts@1 cannot be deleted, because these jobs were trained on it: a" in answer.json()["detail"]
    assert datasets.get("parts", 1) is not None


def test_a_version_that_the_model_in_production_was_trained_on_is_kept(
    ask_datasets: Ask, datasets: DatasetRepository, connection: psycopg.Connection[Any]
) -> None:
    register(datasets, "parts", "a")
    connection.execute(
        "INSERT INTO model_versions (name, version, job_id, path, sha256, size, stage, dataset) "
        "VALUES ('m', 4, 'gone', 's3://b/k', 'x', 1, 'production', 'parts@1')"
    )
    connection.commit()
    answer = ask_datasets("DELETE", "/parts/versions/1")
    assert answer.status_code == 409
    assert "these models in production were trained on it: m@4" in answer.json()["detail"]


def test_a_user_cannot_delete_a_version_that_somebody_else_has_registered(
    ask_datasets: Ask, datasets: DatasetRepository
) -> None:
    register(datasets, "parts", "a", by="eve")
    register(datasets, "parts", "b", by=None)
    assert ask_datasets("DELETE", "/parts/versions/1").status_code == 403
    assert ask_datasets("DELETE", "/parts/versions/2").status_code == 503  # no Airflow runs delete_data here
    assert ask_datasets("DELETE", "/parts/versions/3").status_code == 404
    assert datasets.get("parts", 2) is not None


def test_the_parameters_of_a_registration_are_checked_before_anything_is_triggered(ask_datasets: Ask) -> None:
    for name, body, message in (
        ("digits", {"source": "digits"}, "name='digits' is refused"),
        ("a%20b", {"source": "digits"}, "name='a b' is refused"),
        ("parts", {"source": "parts@3"}, "source='parts@3' is not an address"),
        ("parts", {"source": "http://example.com/data.zip"}, "datasets are not fetched from such addresses"),
        ("parts", {"source": "s3://b/k", "task": "sculpt"}, "task='sculpt' is refused"),
        ("parts", {"source": "s3://b/k", "nme": "x"}, "Unknown parameter nme"),
    ):
        answer = ask_datasets("POST", f"/{name}/versions", json=body)
        assert answer.status_code == 422, body
        assert message in answer.json()["detail"]
        assert not answer.json()["detail"].endswith("..")
    assert (
        ask_datasets("POST", "/parts/versions", json={"source": "s3://b/k"}).status_code == 503
    )  # no Airflow here
    assert ask_datasets("GET", "/parts/registrations/manual__1").status_code == 404


def test_the_error_for_an_unknown_route_names_the_document_with_all_routes(api_url: str) -> None:
    answer = requests.get(f"{api_url}/nowhere", timeout=60)
    assert answer.json()["detail"] == "Not Found. The routes are listed in openapi.json."
