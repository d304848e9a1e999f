"""Registered datasets over REST: versions, what they changed, archiving, and deleting what nothing uses."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import requests

from include.datasets.class_table import ClassCount
from include.datasets.reference import DatasetVersionName
from include.datasets.uploads.plan import AnnouncedFile, plan_upload
from include.datasets.uploads.store import UploadStore
from include.jobs.repository import DatasetGone, JobRepository
from include.registry.manifests import store_manifest
from include.registry.repository import DatasetRepository
from include.s3.bucket import Bucket
from tests.support.jobs import claim, recorded
from tests.support.registered_datasets import register

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Ask = Callable[..., requests.Response]


@pytest.fixture
def ask(api_url: str) -> Ask:
    def send(method: str, path: str, **options: Any) -> requests.Response:
        return requests.request(method, f"{api_url}/datasets{path}", timeout=60, **options)

    return send


def _manifest(bucket: Bucket, folder: Path, content: str, names: list[str], label: str = "l") -> None:
    """Store what a check would have written about that content."""
    file = folder / "manifest"
    with gzip.open(file, "wt") as packed:
        for name in names:
            line = {"split": "train", "name": name, "image": name[0] * 64, "label": label * 64}
            packed.write(json.dumps(line | {"width": 64, "height": 64, "classes": {}}) + "\n")
    store_manifest(bucket, file, content * 64, "detect")


def _keys(client: S3Client, bucket: str) -> set[str]:
    return {item["Key"] for item in client.list_objects_v2(Bucket=bucket).get("Contents", [])}


def test_datasets_and_versions_are_listed_in_pages(ask: Ask, datasets: DatasetRepository) -> None:
    for content in "abc":
        register(datasets, "parts", content)
    register(datasets, "bolts", "a")
    datasets.set_archived("parts", 3, archived=True)
    first = ask("GET", "", params={"limit": 1}).json()
    assert [(each["newest"]["name"], each["versions"]) for each in first["datasets"]] == [("bolts", 1)]
    second = ask("GET", "", params={"limit": 1, "cursor": first["next"]}).json()
    assert [each["newest"]["version"] for each in second["datasets"]] == [2]
    assert second["next"] is None
    assert (
        ask("GET", "", params={"prefix": "p", "archived": "false"}).json()["datasets"] == second["datasets"]
    )
    assert ask("GET", "", params={"archived": "true"}).json()["datasets"] == []
    assert ask("GET", "", params={"cursor": "x"}).status_code == 422

    page = ask("GET", "/parts", params={"limit": 2}).json()
    assert ([each["version"] for each in page["versions"]], page["next"]) == ([3, 2], 2)
    rest = ask("GET", "/parts", params={"limit": 2, "before": 2}).json()
    assert ([each["version"] for each in rest["versions"]], rest["next"]) == ([1], None)
    assert "class_table" not in rest["versions"][0]
    missing = ask("GET", "/partz")
    assert (missing.status_code, missing.json()["detail"]) == (
        404,
        "name='partz' is not a registered dataset.",
    )


def test_a_version_shows_its_classes_and_the_jobs_that_were_trained_on_it(
    ask: Ask, datasets: DatasetRepository, jobs: JobRepository
) -> None:
    bolts = ClassCount(name="bo\u202elt", train=20, val=4, train_images=8, val_images=2)
    register(datasets, "parts", "a", class_table=(bolts,))
    register(datasets, "parts", "b")
    for version, job_id in ((1, "first"), (1, "second"), (2, "other")):
        claim(jobs, job_id, dataset=DatasetVersionName(name="parts", version=version))
    shown = ask("GET", "/parts/versions/1").json()
    assert shown["class_table"][0]["name"] == "bo\\u202elt"
    assert [job["job_id"] for job in shown["jobs"]] == ["second", "first"]
    assert shown["jobs"][0] | {"created_at": None} == {
        "job_id": "second",
        "status": "queued",
        "created_at": None,
        "triggered_by": "ada",
    }
    assert ask("GET", "/parts/versions/3").status_code == 404
    assert ask("GET", "/parts/versions/0").status_code == 422


def test_the_difference_of_two_versions_is_computed_once(
    ask: Ask, datasets: DatasetRepository, s3_client: S3Client, bucket: str, tmp_path: Path
) -> None:
    def classes(*counts: int) -> tuple[ClassCount, ...]:
        names = ("bolt", "nut")
        return tuple(
            ClassCount(name=name, train=count, val=1, train_images=1, val_images=1)
            for name, count in zip(names, counts, strict=False)
        )

    register(datasets, "parts", "a", class_table=classes(3))
    register(datasets, "parts", "b", class_table=classes(3, 5))
    asked = {"params": {"base": 1}}
    unknown = ask("GET", "/parts/versions/2/difference", **asked).json()
    assert unknown["files"] is None  # an earlier release has recorded no images

    kept = Bucket(s3_client, bucket)
    _manifest(kept, tmp_path, "a", ["1.jpg", "2.jpg"])
    _manifest(kept, tmp_path, "b", ["2.jpg", "3.jpg", "4.jpg"])
    found = ask("GET", "/parts/versions/2/difference", **asked).json()
    assert (found["base"], found["version"]) == (1, 2)
    assert {kind: changes["count"] for kind, changes in found["files"].items()} == {
        "added": 2,
        "removed": 1,
        "changed": 0,
        "labels_changed": 0,
        "moved": 0,
    }
    assert [change["name"] for change in found["classes"]["changes"]] == ["nut"]
    back = ask("GET", "/parts/versions/1/difference", params={"base": 2}).json()
    assert (back["files"]["added"]["count"], back["classes"]["removed"]) == (1, 1)

    for content in "ab":
        kept.delete(f"datasets/manifests/{content * 64}-detect.jsonl.gz")
    assert ask("GET", "/parts/versions/2/difference", **asked).json() == found
    assert ask("GET", "/parts/versions/2/difference", params={"base": 9}).status_code == 404
    assert ask("GET", "/parts/versions/2/difference").status_code == 422


def test_versions_too_large_to_compare_while_somebody_waits_are_refused(
    ask: Ask, datasets: DatasetRepository
) -> None:
    register(datasets, "parts", "a", train_images=200_000)
    register(datasets, "parts", "b", train_images=200_000)
    answer = ask("GET", "/parts/versions/2/difference", params={"base": 1})
    assert answer.status_code == 409
    assert "parts@1 and parts@2 have 400,004 images" in answer.json()["detail"]


def test_archiving_changes_what_the_name_stands_for(ask: Ask, datasets: DatasetRepository) -> None:
    register(datasets, "parts", "a")
    register(datasets, "parts", "b")
    archived = ask("POST", "/parts/versions/2/archive").json()
    assert archived["archived_at"] is not None
    assert ask("POST", "/parts/versions/2/archive").json() == archived
    assert ask("GET", "", params={}).json()["datasets"][0]["newest"]["version"] == 1
    assert ask("POST", "/parts/versions/2/restore").json()["archived_at"] is None
    assert ask("GET", "", params={}).json()["datasets"][0]["newest"]["version"] == 2
    assert ask("POST", "/parts/versions/3/restore").status_code == 404


UPLOAD = f"20260101-000000-{'1' * 16}"
OWN = (
    f"uploads/{UPLOAD}/data.zip",
    f"datasets/{'a' * 64}/data.yaml",
    f"datasets/manifests/{'a' * 64}-detect.jsonl.gz",
    f"datasets/reports/{'a' * 64}-detect.json",
    f"datasets/samples/{'a' * 64}-detect/0.jpg",
    f"datasets/differences/{'a' * 64}-detect/{'b' * 64}-detect.json",
    f"datasets/differences/{'b' * 64}-detect/{'a' * 64}-detect.json",
)
OTHERS = (
    f"datasets/{'a' * 64}.jsonl.gz",  # jobs may go on with it
    f"uploads/{UPLOAD[:-1]}2/data.zip",
    f"datasets/{'b' * 64}/data.yaml",
    f"datasets/{'b' * 64}.jsonl.gz",
    f"datasets/manifests/{'b' * 64}-detect.jsonl.gz",
    f"datasets/manifests/{'a' * 64}-segment.jsonl.gz",
    "datasets/jobs/a.json",
    "checkpoints/a/best.pt",
)


def _copy(bucket: str) -> str:
    """Where the converted copy is."""
    return f"s3://{bucket}/datasets/{'a' * 64}/data.yaml"


@pytest.fixture
def stored(s3_client: S3Client, bucket: str) -> None:
    for key in (*OWN, *OTHERS):
        s3_client.put_object(Bucket=bucket, Key=key, Body=b"1234")
    upload = plan_upload([AnnouncedFile("data.zip", 4)], "ada").model_copy(update={"upload_id": UPLOAD})
    UploadStore(Bucket(s3_client, bucket)).begin(upload)


def test_a_version_is_deleted_with_what_only_it_uses(
    ask: Ask, datasets: DatasetRepository, stored: None, s3_client: S3Client, bucket: str
) -> None:
    register(datasets, "parts", "a", source=_copy(bucket), origin=f"s3://{bucket}/uploads/{UPLOAD}/data.zip")
    answer = ask("DELETE", "/parts/versions/1")
    deleted = {"name": "parts", "version": 1, "objects": len(OWN), "bytes": 4 * len(OWN)}
    assert (answer.status_code, answer.json()) == (200, deleted)
    assert _keys(s3_client, bucket) == set(OTHERS)
    assert ask("DELETE", "/parts/versions/1").status_code == 404
    assert register(datasets, "parts", "a").version == 2


def test_a_converted_copy_is_found_by_its_address_where_etags_are_no_hashes(
    ask: Ask, datasets: DatasetRepository, stored: None, s3_client: S3Client, bucket: str
) -> None:
    register(datasets, "parts", "c", source=_copy(bucket))
    assert ask("DELETE", "/parts/versions/1").json()["objects"] == 1
    assert f"datasets/{'a' * 64}/data.yaml" not in _keys(s3_client, bucket)


def test_what_other_versions_and_jobs_use_is_kept(
    ask: Ask,
    datasets: DatasetRepository,
    jobs: JobRepository,
    stored: None,
    s3_client: S3Client,
    bucket: str,
) -> None:
    origin = f"s3://{bucket}/uploads/{UPLOAD}/data.zip"
    register(datasets, "parts", "a", source=_copy(bucket), origin=origin)
    register(datasets, "others", "a", source=_copy(bucket), origin=origin)
    assert ask("DELETE", "/parts/versions/1").json()["objects"] == 0
    claim(jobs, spec={"dataset": origin})
    jobs.record_dataset("a", "run1", "a" * 64)
    assert ask("DELETE", "/others/versions/1").status_code == 200
    left = set(OWN) & _keys(s3_client, bucket)
    assert left == set(OWN[:2])  # of the job that was given the address itself


def test_somebody_elses_upload_stays_when_a_version_of_it_is_deleted(
    ask: Ask, datasets: DatasetRepository, stored: None, s3_client: S3Client, bucket: str
) -> None:
    register(datasets, "parts", "c", source=f"s3://{bucket}/uploads/{UPLOAD}/data.zip", by=None)
    assert ask("DELETE", "/parts/versions/1").json()["objects"] == 0
    assert OWN[0] in _keys(s3_client, bucket)


def test_a_copy_that_others_use_is_not_deleted_with_a_version_of_its_folder(
    ask: Ask, datasets: DatasetRepository, stored: None, s3_client: S3Client, bucket: str
) -> None:
    register(datasets, "parts", "a", source=_copy(bucket), origin="s3://bucket/export.ndjson")
    register(datasets, "mine", "c", source=_copy(bucket).removesuffix("data.yaml"))
    assert ask("DELETE", "/mine/versions/1").json()["objects"] == 0
    assert f"datasets/{'a' * 64}/data.yaml" in _keys(s3_client, bucket)


def test_a_copy_is_kept_while_a_job_that_may_use_it_goes_on(
    ask: Ask, datasets: DatasetRepository, jobs: JobRepository, stored: None, s3_client: S3Client, bucket: str
) -> None:
    for name in ("checked", "resumed"):
        register(datasets, name, "a", source=_copy(bucket), origin="s3://bucket/export.ndjson")
    claim(jobs, "new", spec={"dataset": "s3://bucket/other.ndjson"})  # its check goes on
    assert ask("DELETE", "/checked/versions/1").status_code == 200
    jobs.record_dataset("new", "run1", "b" * 64)
    claim(jobs, "old", spec={"dataset": "s3://bucket/export.ndjson"})
    jobs.record_dataset("old", "run1", "a" * 64)
    claim(jobs, "old", "run2", "run1", spec={"dataset": "s3://bucket/export.ndjson"})
    assert recorded(jobs, "old").dataset_fingerprint == "a" * 64
    assert ask("DELETE", "/resumed/versions/1").status_code == 200
    assert f"datasets/{'a' * 64}/data.yaml" in _keys(s3_client, bucket)
    claim(jobs, "old", "run3", "run2", fresh=True)
    assert recorded(jobs, "old").dataset_fingerprint is None


def test_a_version_that_a_job_was_trained_on_is_kept(
    ask: Ask, datasets: DatasetRepository, jobs: JobRepository
) -> None:
    register(datasets, "parts", "a")
    claim(jobs, dataset=DatasetVersionName(name="parts", version=1))
    answer = ask("DELETE", "/parts/versions/1")
    assert answer.status_code == 409
    assert "parts@1 cannot be deleted: a was trained on it" in answer.json()["detail"]
    assert datasets.get("parts", 1) is not None


def test_a_version_that_the_model_in_production_was_trained_on_is_kept(
    ask: Ask, datasets: DatasetRepository, connection: psycopg.Connection[Any]
) -> None:
    register(datasets, "parts", "a")
    connection.execute(
        "INSERT INTO model_versions (name, version, job_id, path, sha256, size, stage, dataset) "
        "VALUES ('m', 4, 'gone', 's3://b/k', 'x', 1, 'production', 'parts@1')"
    )
    connection.commit()
    answer = ask("DELETE", "/parts/versions/1")
    assert answer.status_code == 409
    assert "model m@4, which is in production" in answer.json()["detail"]


def test_nobody_deletes_what_somebody_else_has_registered(ask: Ask, datasets: DatasetRepository) -> None:
    register(datasets, "parts", "a", by="eve")
    register(datasets, "parts", "b", by=None)
    assert ask("DELETE", "/parts/versions/1").status_code == 403
    assert ask("DELETE", "/parts/versions/2").status_code == 200


def test_a_job_is_not_recorded_with_a_version_that_was_just_deleted(
    ask: Ask, datasets: DatasetRepository, jobs: JobRepository
) -> None:
    register(datasets, "parts", "a")
    assert ask("DELETE", "/parts/versions/1").status_code == 200
    with pytest.raises(DatasetGone, match="dataset='parts@1' has just been deleted"):
        claim(jobs, dataset=DatasetVersionName(name="parts", version=1))
    assert jobs.get("a") is None


def test_a_deletion_waits_for_a_job_that_is_being_recorded(
    ask: Ask, datasets: DatasetRepository, migrated_url: str
) -> None:
    register(datasets, "parts", "a")
    with psycopg.connect(migrated_url) as claiming, claiming.transaction():
        claim(JobRepository(claiming), dataset=DatasetVersionName(name="parts", version=1))
        threads = ThreadPoolExecutor(1)
        deletion = threads.submit(ask, "DELETE", "/parts/versions/1")
        with pytest.raises(TimeoutError):
            deletion.result(0.5)
    assert deletion.result(30).status_code == 409


def test_the_parameters_of_a_registration_are_checked_before_anything_is_triggered(ask: Ask) -> None:
    for name, body, said in (
        ("digits", {"source": "digits"}, "name='digits' is refused"),
        ("a%20b", {"source": "digits"}, "name='a b' is refused"),
        ("parts", {"source": "parts@3"}, "source='parts@3' is not an address"),
        ("parts", {"source": "http://example.com/data.zip"}, "datasets are not fetched from such addresses"),
        ("parts", {"source": "s3://b/k", "task": "sculpt"}, "task='sculpt' is refused"),
        ("parts", {"source": "s3://b/k", "nme": "x"}, "Unknown parameter nme"),
    ):
        answer = ask("POST", f"/{name}/versions", json=body)
        assert answer.status_code == 422, body
        assert said in answer.json()["detail"]
    assert ask("POST", "/parts/versions", json={"source": "s3://b/k"}).status_code == 503  # no Airflow here
    assert ask("GET", "/parts/registrations/manual__1").status_code == 404
