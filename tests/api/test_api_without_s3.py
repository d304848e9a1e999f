"""Requests that are invalid anyway are refused as usual while the connection to S3 cannot be looked up."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from include.deployment.lookup import LookupFailed
from include.jobs.repository import JobRepository
from include.registry.repository import DatasetRepository
from tests.support.jobs import started
from tests.support.registered_datasets import register


@pytest.fixture
def url_without_s3(
    api_url: str, jobs: JobRepository, datasets: DatasetRepository, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Return the API's URL; job a and version 1 of dataset parts exist, but S3 cannot be reached."""
    started(jobs)
    register(datasets, "parts", "a")

    def fail(conn_id: str) -> Any:
        raise LookupFailed(conn_id, "MetastoreBackend")

    monkeypatch.setattr("include.deployment.s3_hook.look_up", fail)
    return api_url


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/jobs/unknown/checkpoints/best", 404),
        ("GET", "/jobs/a/checkpoints/other", 422),
        ("GET", "/jobs/unknown/dataset-report", 404),
        ("GET", "/jobs/unknown/pictures", 404),
        ("GET", "/jobs/unknown/pictures/results.png", 404),
        ("GET", "/datasets/parts/versions/1/difference?base=0", 422),
        ("GET", "/datasets/parts/versions/1/difference?base=2", 404),
        ("GET", "/datasets/parts/versions/0/samples", 422),
        ("GET", "/datasets/parts/versions/2/samples/0.jpg", 404),
        ("GET", "/pretrained?unknown=1", 422),
        ("PUT", "/pretrained/notes.txt", 422),
        ("POST", "/uploads", 422),
        ("GET", "/uploads/unknown", 404),
        ("POST", "/uploads/unknown/parts", 422),
    ],
)
def test_an_invalid_request_is_refused_without_s3(
    url_without_s3: str, method: str, path: str, status: int
) -> None:
    answer = requests.request(method, f"{url_without_s3}{path}", json={}, timeout=60)
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/jobs/a/checkpoints/best",
        "/jobs/a/dataset-report",
        "/datasets/parts/versions/1/samples",
        "/pretrained",
        "/uploads/20260101-000000-0123456789abcdef",
    ],
)
def test_a_valid_request_reports_the_failed_look_up(url_without_s3: str, path: str) -> None:
    answer = requests.get(f"{url_without_s3}{path}", timeout=60)
    assert answer.status_code == 503, answer.text
    assert "Airflow cannot look up its connections" in answer.json()["detail"]
