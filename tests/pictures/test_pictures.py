"""Pictures of a training run are selected, stored under their run, and delivered to a page."""

from __future__ import annotations

import json
import random
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import requests
from PIL import Image

from include.api import database
from include.attempt.attempt import TrainingAttempt
from include.attempt.pictures import remove_earlier_pictures, store_pictures
from include.checkpoints.store import CheckpointStore
from include.claim.resolved_job import ResolvedJob
from include.datasets.check import inspect_dataset
from include.datasets.s3 import S3ObjectReader
from include.deployment.settings import Settings
from include.jobs.repository import JobRepository
from include.jobs.spec import TrainingSpec
from include.pictures.choosing import LARGEST_PICTURE, LARGEST_TOGETHER, MOST_PICTURES, choose_pictures
from include.pictures.store import PictureStore
from include.s3.bucket import Bucket
from tests.support.jobs import claim, recorded, resolved, small_detection, started
from tests.support.stored_objects import keys
from tests.support.tiny_datasets import build
from tests.support.untrained import stored_start
from tests.support.waiting import until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def draw(folder: Path, name: str, side: int = 8, seed: int = 0) -> bytes:
    """Draw noise, which no format compresses much; return the file's bytes."""
    folder.mkdir(exist_ok=True)
    Image.frombytes("RGB", (side, side), random.Random(seed).randbytes(3 * side * side)).save(folder / name)
    return (folder / name).read_bytes()


def job(job_id: str, run_id: str, *, fresh: bool = False) -> ResolvedJob:
    spec = TrainingSpec(dataset="digits", fresh=fresh).with_defaults()
    return ResolvedJob(job_id=job_id, dag_id="train_yolo", run_id=run_id, origin_run_id=run_id, spec=spec)


def test_the_most_important_pictures_come_first_and_other_files_are_ignored(tmp_path: Path) -> None:
    names = ["results.png", "val_batch0_pred.jpg", "val_batch0_labels.jpg", "confusion_matrix.png",
             "BoxPR_curve.png", "BoxP_curve.png", "labels.jpg", "train_batch0.jpg"]  # fmt: skip
    for name in reversed(names):
        draw(tmp_path, name)
    for name in ("holiday.jpg", "results.csv", ".hidden.png", "args.yaml"):
        (tmp_path / name).write_bytes(b"something else")
    (tmp_path / "train_batch1.jpg").mkdir()
    assert [name for name, _ in choose_pictures(tmp_path)] == names


def test_invalid_and_truncated_pictures_are_ignored(tmp_path: Path) -> None:
    whole = draw(tmp_path, "labels.jpg", 64)
    (tmp_path / "train_batch0.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "train_batch1.jpg").write_bytes(b"<script>alert(1)</script>")
    (tmp_path / "results.png").write_bytes(whole)  # a JPEG with the extension of a PNG
    assert dict(choose_pictures(tmp_path)) == {"labels.jpg": whole}


@pytest.mark.parametrize("name", ["results.png", "labels.jpg"])
def test_a_picture_that_is_too_large_is_made_smaller(tmp_path: Path, name: str) -> None:
    assert len(draw(tmp_path, name, 2600)) > LARGEST_PICTURE
    ((_, content),) = choose_pictures(tmp_path)
    assert len(content) <= LARGEST_PICTURE
    (tmp_path / "smaller").write_bytes(content)
    with Image.open(tmp_path / "smaller") as smaller:
        assert max(smaller.size) <= 1600
        assert smaller.format == ("PNG" if name.endswith("png") else "JPEG")


def test_the_number_and_total_size_of_pictures_are_limited(tmp_path: Path) -> None:
    for number in range(30):
        draw(tmp_path / "small", f"train_batch{number}.jpg")
    assert len(list(choose_pictures(tmp_path / "small"))) == MOST_PICTURES
    draw(tmp_path / "large", "train_batch0.jpg", 1300)
    content = (tmp_path / "large" / "train_batch0.jpg").read_bytes()
    for number in range(1, MOST_PICTURES):
        (tmp_path / "large" / f"train_batch{number}.jpg").write_bytes(content)
    together = [len(content) for _, content in choose_pictures(tmp_path / "large")]
    assert sum(together) <= LARGEST_TOGETHER < sum(together) + len(content)


@pytest.mark.usefixtures("airflow_connections")
def test_a_new_run_with_the_same_job_id_removes_the_pictures_and_the_same_run_adds_to_them(
    s3_client: S3Client, bucket: str, tmp_path: Path
) -> None:
    draw(tmp_path / "first", "labels.jpg")
    draw(tmp_path / "first", "results.png")
    draw(tmp_path / "second", "results.png")
    settings = Settings(bucket, tmp_path)
    store_pictures(tmp_path / "first", settings, job("a", "run1"))
    store_pictures(tmp_path / "second", settings, job("a", "run1"))
    assert keys(s3_client, bucket) == {"pictures/a/labels.jpg", "pictures/a/results.png"}
    store_pictures(tmp_path / "first", settings, job("ab", "run1"))
    anew = job("a", "run 2/é", fresh=True)
    remove_earlier_pictures(tmp_path / "first", settings, anew)
    assert not list((tmp_path / "first").iterdir())
    assert keys(s3_client, bucket) == {"pictures/ab/labels.jpg", "pictures/ab/results.png"}
    store_pictures(tmp_path / "second", settings, anew)
    store = PictureStore(Bucket(s3_client, bucket))
    assert [each.name for each in store.list_pictures("a", "run 2/é")] == ["results.png"]
    assert store.list_pictures("a", "run1") == []
    remove_earlier_pictures(tmp_path / "nothing", settings, anew)  # a second attempt that starts over
    assert [each.name for each in store.list_pictures("a", "run 2/é")] == ["results.png"]


def test_pictures_that_cannot_be_stored_only_cause_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    away = {"conn_type": "aws", "login": "key", "password": "secret",
            "extra": {"endpoint_url": "http://127.0.0.1:9", "region_name": "us-east-1"}}  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_S3", json.dumps(away))
    draw(tmp_path, "results.png")
    store_pictures(tmp_path, Settings("bucket", tmp_path), job("a", "run1"))
    assert "Not all pictures of job a were stored" in caplog.text


def test_a_page_gets_the_pictures_through_the_api(
    worker_api_url: str, jobs: JobRepository, bucket: str, tmp_path: Path
) -> None:
    started(jobs)
    assert requests.get(f"{worker_api_url}/jobs/a/pictures", timeout=60).json() == {"pictures": []}
    content = {name: draw(tmp_path / "drawn", name, 32) for name in ("labels.jpg", "results.png")}
    store_pictures(tmp_path / "drawn", Settings(bucket, tmp_path), job("a", "run1"))
    listed = requests.get(f"{worker_api_url}/jobs/a/pictures", timeout=60).json()["pictures"]
    assert [(each["name"], each["size"], each["media_type"]) for each in listed] == [
        ("results.png", len(content["results.png"]), "image/png"),
        ("labels.jpg", len(content["labels.jpg"]), "image/jpeg"),
    ]
    for each in listed:
        assert each["href"].endswith(f"/training/api/v1/jobs/a/pictures/{each['name']}")
        picture = requests.get(f"{worker_api_url}/jobs/a/pictures/{each['name']}", timeout=60)
        assert picture.status_code == 200
        assert picture.content == content[each["name"]]
        assert picture.headers["content-type"] == each["media_type"]
        assert picture.headers["x-content-type-options"] == "nosniff"
        assert picture.headers["cache-control"] == "private, no-cache"
        again = requests.get(picture.url, headers={"If-None-Match": picture.headers["etag"]}, timeout=60)
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["labels.jpg", "best.pt", "..%2Fb%2Fresults.png", "%00", "results.svg"])
def test_only_pictures_of_the_job_are_served(
    worker_api_url: str, jobs: JobRepository, s3_client: S3Client, bucket: str, tmp_path: Path, name: str
) -> None:
    started(jobs)
    for key in ("pictures/a/best.pt", "pictures/a/results.svg", "pictures/b/results.png"):
        s3_client.put_object(Bucket=bucket, Key=key, Body=b"<svg/>", Metadata={"run-id": "run1"})
    draw(tmp_path / "drawn", "labels.jpg")
    PictureStore(Bucket(s3_client, bucket)).add("a", "another run", choose_pictures(tmp_path / "drawn"))
    assert requests.get(f"{worker_api_url}/jobs/a/pictures", timeout=60).json() == {"pictures": []}
    answer = requests.get(f"{worker_api_url}/jobs/a/pictures/{name}", timeout=60)
    assert answer.status_code == 404, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_pictures_of_a_missing_job_are_not_found(worker_api_url: str) -> None:
    for path in ("pictures", "pictures/results.png"):
        answer = requests.get(f"{worker_api_url}/jobs/nobody/{path}", timeout=60)
        assert answer.status_code == 404
        assert "'nobody' does not exist" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["pictures", "pictures/results.png", "checkpoints/best"])
def test_no_database_connection_is_held_while_waiting_for_s3(
    worker_api_url: str, jobs: JobRepository, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    started(jobs)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        away = {"conn_type": "aws", "login": "key", "password": "secret",
                "extra": {"endpoint_url": f"http://127.0.0.1:{silent.getsockname()[1]}",
                          "region_name": "us-east-1"}}  # fmt: skip
        monkeypatch.setenv("AIRFLOW_CONN_TRAINING_S3", json.dumps(away))
        with ThreadPoolExecutor(1) as threads:
            answer = threads.submit(requests.get, f"{worker_api_url}/jobs/a/{path}", timeout=60)
            accepted, _ = silent.accept()
            lent = database.pool.checkedout()
            accepted.close()
            silent.close()
            assert answer.result().status_code == 503
    assert lent == 0


@pytest.mark.parametrize(
    ("plots", "stopping"),
    [(True, True), *(pytest.param(plots, False, marks=pytest.mark.long) for plots in (True, False))],
)
def test_a_training_run_stores_its_plots(
    worker_api_url: str, jobs: JobRepository, s3_client: S3Client, bucket: str, tmp_path: Path,
    migrated_url: str, plots: bool, stopping: bool,
) -> None:  # fmt: skip
    build("detect", tmp_path / "data", train=8, val=4)
    model = stored_start(s3_client, bucket, tmp_path)
    spec = small_detection(tmp_path / "data" / "data.yaml", model, plots=plots)
    settings = Settings(bucket, tmp_path / "root", dataset_folders=(tmp_path,))
    reader = S3ObjectReader(s3_client)
    cache, roots = settings.dataset_cache, settings.dataset_roots
    dataset = inspect_dataset(spec.dataset, "detect", cache, reader, roots).reference
    claim(jobs, spec=spec.model_dump(mode="json", exclude={"job_id"}))
    settings.find_run_folder("a").mkdir(parents=True)
    draw(settings.find_run_folder("a"), "PR_curve.png")  # left by an earlier training run on this machine
    if stopping:
        threading.Thread(target=_stop_when_it_runs, args=[migrated_url], daemon=True).start()

    manifest = TrainingAttempt(
        resolved(spec),
        dataset,
        1,
        settings,
        lambda: CheckpointStore(Bucket(s3_client, bucket), run_id="run1"),
    ).run()

    assert manifest.stop_reason == ("stopped" if stopping else "completed")
    listed = requests.get(f"{worker_api_url}/jobs/a/pictures", timeout=60).json()["pictures"]
    names = [each["name"] for each in listed]
    if not plots:
        assert names == []
        return
    assert {"results.png", "val_batch0_pred.jpg", "val_batch0_labels.jpg", "labels.jpg"} <= set(names)
    assert names[0] == "results.png"
    assert "PR_curve.png" not in names
    for each in listed:
        picture = requests.get(f"{worker_api_url}/jobs/a/pictures/{each['name']}", timeout=60)
        (tmp_path / "seen").write_bytes(picture.content)
        with Image.open(tmp_path / "seen") as seen:
            assert seen.get_format_mimetype() == each["media_type"]


def _stop_when_it_runs(url: str) -> None:
    """Request a stop as soon as the job runs, as a user does with the button."""
    with psycopg.connect(url, autocommit=True) as connection:
        jobs = JobRepository(connection)
        until(lambda: recorded(jobs).status == "running", "a running job", pause=0.05)
        jobs.request_stop("a")
