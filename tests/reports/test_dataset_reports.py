"""Findings of a dataset check: a summary in the job's row, the full report in S3 and over the API."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from airflow.sdk.exceptions import AirflowFailException

from include.claim.resolved_job import ResolvedJob
from include.datasets.checking.findings import Finding
from include.datasets.errors import LISTED_FINDINGS, DatasetError
from include.jobs.repository import JobRepository
from include.limits import ERROR_BYTES, FINDINGS, PLACES_PER_KIND, SUMMARY_BYTES
from include.reports.report import DatasetReport, report_on
from include.tasks.train_yolo import check_job_dataset
from tests.support.airflow_connections import context_of
from tests.support.jobs import claim, recorded
from tests.support.tiny_datasets import build

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PROBLEMS = 60


@pytest.fixture
def job(tmp_path: Path) -> ResolvedJob:
    """Job a, whose dataset has one label file with many wrong lines."""
    data = build("detect", tmp_path / "data")
    (tmp_path / "data" / "labels" / "train" / "0.txt").write_text("9 0.5 0.5 0.1 0.1\n" * PROBLEMS)
    return job_with(data)


def job_with(data: Path) -> ResolvedJob:
    """Job a, which trains on this dataset."""
    spec = {"dataset": str(data), "task": "detect", "model": "yolo11n"}
    names = {"job_id": "a", "dag_id": "train_yolo", "run_id": "run1", "origin_run_id": "run1"}
    return ResolvedJob.model_validate(names | {"spec": spec, "resume": None})


def failure(job: ResolvedJob) -> str:
    with pytest.raises(AirflowFailException) as failed:
        check_job_dataset(job, context_of({}))
    return str(failed.value)


def test_all_findings_of_a_check_are_in_s3_and_in_the_api(
    worker_api_url: str, job: ResolvedJob, jobs: JobRepository, s3_client: S3Client, bucket: str
) -> None:
    error = failure(job)
    assert f"has {PROBLEMS} problems" in error
    assert error.endswith(f"Complete report: s3://{bucket}/reports/a/dataset.json")
    stored = s3_client.get_object(Bucket=bucket, Key="reports/a/dataset.json")
    assert stored["ContentType"] == "application/json"
    report = DatasetReport.model_validate_json(stored["Body"].read())
    assert (report.job_id, report.run_id, report.problems, report.omitted) == ("a", "run1", PROBLEMS, 0)
    assert [finding.line for finding in report.findings] == list(range(1, PROBLEMS + 1))
    assert [(kind.kind, kind.count, len(kind.places)) for kind in report.errors] == [
        ("label-class", PROBLEMS, PLACES_PER_KIND)
    ]

    claim(jobs)
    jobs.fail_run("train_yolo", "run1", f"check_dataset: {error}")
    link = requests.get(f"{worker_api_url}/jobs/a", timeout=60).json()["links"]["dataset_report"]
    assert link.endswith("/jobs/a/dataset-report")
    served = requests.get(f"{worker_api_url}/jobs/a/dataset-report", timeout=60)
    assert DatasetReport.model_validate(served.json()) == report
    s3_client.put_object(Bucket=bucket, Key="reports/a/dataset.json", Body=b"<script>")
    assert requests.get(f"{worker_api_url}/jobs/a/dataset-report", timeout=60).status_code == 404


def test_warnings_about_valid_data_are_served_by_the_api(
    worker_api_url: str, tmp_path: Path, jobs: JobRepository
) -> None:
    claim(jobs)
    assert requests.get(f"{worker_api_url}/jobs/a/dataset-report", timeout=60).status_code == 404
    check_job_dataset(job_with(_peculiar(tmp_path / "data")), context_of({}))
    link = requests.get(f"{worker_api_url}/jobs/a", timeout=60).json()["links"]["dataset_report"]
    assert link.endswith("/jobs/a/dataset-report")
    served = requests.get(f"{worker_api_url}/jobs/a/dataset-report", timeout=60)
    report = DatasetReport.model_validate(served.json())
    assert (report.problems, report.errors, report.findings) == (0, [], [])
    assert {kind.kind: kind.count for kind in report.warnings} == {"duplicate-rows": 2, "leaked-images": 1}
    (leaked,) = (kind for kind in report.warnings if kind.kind == "leaked-images")
    assert str(leaked.places[0]) == "images/val/0.png: images/train/0.png of train has the same content"
    assert [(count.name, count.train > 0, count.val > 0) for count in report.class_table] == [
        ("box", True, True),
        ("arrow", True, True),
    ]


def _peculiar(folder: Path) -> Path:
    """Return data with one image in both splits, and with a label line that is repeated twice."""
    data = build("detect", folder)
    for kind, suffix in (("images", "png"), ("labels", "txt")):
        shutil.copy(folder / kind / "train" / f"0.{suffix}", folder / kind / "val" / f"0.{suffix}")
    label = folder / "labels" / "train" / "3.txt"
    label.write_text(label.read_text() + f"{label.read_text().splitlines()[0]}\n" * 2)
    return data


@pytest.mark.usefixtures("airflow_connections")
def test_a_report_that_cannot_be_stored_does_not_hide_findings(
    job: ResolvedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = json.loads(os.environ["AIRFLOW_CONN_TRAINING_S3"])
    away["extra"]["endpoint_url"] = "http://127.0.0.1:1"
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_S3", json.dumps(away))
    error = failure(job)
    assert f"has {PROBLEMS} problems" in error
    assert "labels/train/0.txt:1: class 9 is not in 0..1" in error
    assert "reports/" not in error


def test_a_summary_is_short_and_a_report_is_bounded_for_any_findings() -> None:
    findings = [Finding("é" * 5000, number, "x" * 9000) for number in range(FINDINGS + 7)]
    error = DatasetError.from_findings("s3://" + "b" * 1000, findings)
    assert len(str(error).encode()) <= SUMMARY_BYTES
    listed = str(error).count("\n") - 2
    assert 3 < listed <= LISTED_FINDINGS
    assert str(error).endswith(f"... and {len(findings) - listed} more")
    report = report_on(error, job_id="a", run_id="r", dataset="d", task="detect")
    assert (len(report.findings), report.omitted, report.problems) == (FINDINGS, 7, FINDINGS + 7)
    assert len(report.model_dump_json()) < 32 * 1024**2


@pytest.mark.parametrize("text", ["é" * 9_000_000, "a\x00b", "name \udce9 of a file"])
def test_an_error_in_a_row_takes_at_most_4_kb_in_postgres(text: str, jobs: JobRepository) -> None:
    claim(jobs)
    jobs.record_inexact("a", "run1", 1, text)
    jobs.fail_run("train_yolo", "run1", text)
    row = recorded(jobs)
    for stored in (row.error, row.inexact_reason):
        assert stored is not None
        assert 0 < len(stored.encode()) <= ERROR_BYTES


def test_only_known_statements_write_the_errors_that_listings_show() -> None:
    root = Path(__file__).parents[2]
    writers = {
        path.stem
        for path in (root / "sql" / "queries").glob("*.sql")
        if "%(error)s" in path.read_text() or "%(reason)s" in path.read_text()
        if "training_jobs" in path.read_text()
    }
    assert writers == {"fail_run", "refuse_job", "record_inexact"}
    for path in (root / "include").rglob("*.py"):
        named = [name for name in writers if f'"{name}"' in path.read_text(encoding="utf-8")]
        assert not named or path.parent.name == "jobs", (path, named)
