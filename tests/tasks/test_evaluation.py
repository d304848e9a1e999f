"""The task `evaluate` measures both models, verified against their rows, on the challenger's data."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from include.checkpoints.checkpoint import hash_file
from include.models.promotion import register_copy
from include.s3.bucket import Bucket
from include.tasks.evaluation import _remove_leftovers, evaluate_models
from include.tasks.retrain_payloads import Challenge, Challenger, Evaluations
from include.training.contract import MachineUnusable
from tests.support.dataset_steps import check_dataset
from tests.support.model_keys import new_key, public_pem
from tests.support.model_versions import promote_over_present, trained
from tests.support.retrain_plans import plan
from tests.support.retrainings import retraining
from tests.support.stored_objects import replace
from tests.support.tiny_datasets import CLASSES, build
from tests.support.tiny_models import architecture
from tests.support.untrained import best

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


pytestmark = pytest.mark.usefixtures("airflow_connections")


@pytest.fixture
def challenger(
    connection: psycopg.Connection[Any], s3_client: S3Client, bucket: str, tmp_path: Path
) -> Challenger:
    """Return a completed job with a tiny model."""
    weights = best("detect", tmp_path / "best.pt", architecture=architecture(tmp_path))
    sha256 = trained(connection, s3_client, bucket, "shapes-1", weights.read_bytes())
    path = f"s3://{bucket}/checkpoints/shapes-1/best.pt"
    return Challenger(job_id="shapes-1", path=path, sha256=sha256)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of the dataset on which the challenger was trained."""
    return build("detect", tmp_path / "data", train=2, val=2).parent


class XComs:
    """The results of the tasks of a run of train_yolo."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self._found = check_dataset(str(folder), "detect", cache, None).model_dump(mode="json")

    def xcom_pull(self, *, dag_id: str, run_id: str, task_ids: str) -> Any:
        source = (dag_id, run_id, task_ids)
        return self._found if source == ("train_yolo", "retrain__shapes-1", "check_dataset") else None


def evaluated(folder: Path, challenger: Challenger, run_id: str = "retrain__shapes-1") -> Evaluations:
    challenge = Challenge(
        job_id=challenger.job_id, run_id=run_id, conf={}, timeout_hours=1, parameters_fingerprint="p"
    )
    planned = plan(name="shapes", dataset=str(folder), parameters={"imgsz": 64, "batch": 2, "device": "cpu"})
    return evaluate_models(
        retraining(planned),
        challenge,
        challenger,
        cast("Context", {"ti": XComs(folder, folder.parent / "cache")}),
    )


def test_challenger_and_champion_are_measured_on_the_same_data(
    folder: Path,
    challenger: Challenger,
    connection: psycopg.Connection[Any],
    s3_client: S3Client,
    bucket: str,
    tmp_path: Path,
) -> None:
    alone = evaluated(folder, challenger)
    assert (alone.champion_version, alone.champion) == (None, None)
    trained(connection, s3_client, bucket, "shapes-0", (tmp_path / "best.pt").read_bytes())
    register_copy(connection, Bucket(s3_client, bucket), "shapes", job_id="shapes-0", run_id="r")
    promote_over_present(connection, Bucket(s3_client, bucket), "shapes", 1, by="ada", reason="first")
    both = evaluated(folder, challenger)
    assert (both.champion_version, both.champion) == (1, both.challenger)
    assert both.challenger == alone.challenger
    assert set(both.challenger.classes) == set(CLASSES)
    assert (both.dataset, both.dataset_fingerprint) == (
        str(folder), check_dataset(str(folder), "detect", tmp_path / "cache", None).fingerprint
    )  # fmt: skip
    assert [path.name for path in (tmp_path / "training").iterdir()] == [".datasets"]


def test_an_unsigned_champion_is_not_measured(
    folder: Path,
    challenger: Challenger,
    connection: psycopg.Connection[Any],
    s3_client: S3Client,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained(connection, s3_client, bucket, "shapes-0", b"weights")
    register_copy(connection, Bucket(s3_client, bucket), "shapes", job_id="shapes-0", run_id="r")
    promote_over_present(connection, Bucket(s3_client, bucket), "shapes", 1, by="ada", reason="first")
    monkeypatch.setenv("MODEL_VERIFICATION_KEYS", public_pem(new_key()))
    with pytest.raises(
        AirflowFailException, match=r"version 1 of model shapes was promoted, but .*sig does not"
    ):
        evaluated(folder, challenger)


def test_a_model_that_differs_from_the_recorded_one_is_not_measured(
    folder: Path, challenger: Challenger, s3_client: S3Client, tmp_path: Path
) -> None:
    other = best("detect", tmp_path / "other.pt", ("ring",), architecture(tmp_path))
    identity = {"sha256": hash_file(other), "epoch": "1"}
    replace(s3_client, challenger.path, other.read_bytes(), identity)
    with pytest.raises(AirflowFailException, match=f"has SHA-256 .* but {challenger.sha256} was recorded"):
        evaluated(folder, challenger)


def test_without_the_checked_dataset_of_a_deleted_run_nothing_is_measured(
    folder: Path, challenger: Challenger
) -> None:
    with pytest.raises(AirflowFailException, match="run retrain__gone of train_yolo was deleted, or its"):
        evaluated(folder, challenger, run_id="retrain__gone")


def test_the_data_are_those_of_the_run_that_completed_the_job(
    folder: Path, challenger: Challenger, connection: psycopg.Connection[Any]
) -> None:
    connection.execute("UPDATE training_jobs SET dag_id = 'train_yolo', run_id = 'retrain__shapes-1'")
    connection.commit()
    assert evaluated(folder, challenger, run_id="retrain__failed").dataset == str(folder)


def test_a_cleared_task_does_not_let_the_new_champion_compete_with_itself(
    folder: Path,
    challenger: Challenger,
    connection: psycopg.Connection[Any],
    s3_client: S3Client,
    bucket: str,
) -> None:
    register_copy(connection, Bucket(s3_client, bucket), "shapes", job_id="shapes-1", run_id="r")
    promote_over_present(connection, Bucket(s3_client, bucket), "shapes", 1, by="ada", reason="first")
    with pytest.raises(AirflowSkipException, match="Job shapes-1 is already in production: version 1"):
        evaluated(folder, challenger)


def test_a_machine_without_the_data_leaves_the_evaluation_to_another(
    folder: Path, challenger: Challenger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASET_ROOTS", str(tmp_path / "not mounted"))
    with pytest.raises(MachineUnusable, match=r"not mounted.*on another machine"):
        evaluated(folder, challenger)


def test_a_machine_with_a_wrong_endpoint_leaves_the_evaluation_to_another(
    folder: Path, challenger: Challenger, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = '{"conn_type": "aws", "login": "k", "password": "s", "extra": {"endpoint_url": "minio:9000"}}'
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_S3", wrong)
    with pytest.raises(MachineUnusable, match=r"minio:9000.*on another machine"):
        evaluated(folder, challenger)


def test_nothing_is_measured_on_data_that_others_could_have_replaced(
    folder: Path, challenger: Challenger, tmp_path: Path
) -> None:
    root = tmp_path / "training"
    root.mkdir(exist_ok=True)
    root.chmod(0o777)
    with pytest.raises(MachineUnusable, match=f"can replace {root / '.datasets'}.*on another machine"):
        evaluated(folder, challenger)


def test_folders_of_evaluations_that_were_killed_long_ago_are_removed(tmp_path: Path) -> None:
    for name in ("old", "recent"):
        (tmp_path / f".evaluation-{name}").mkdir()
    (tmp_path / ".evaluation-old" / "best.pt").touch()
    two_days_ago = time.time() - 48 * 3600
    os.utime(tmp_path / ".evaluation-old", (two_days_ago, two_days_ago))
    assert [left.name for left in _remove_leftovers(tmp_path).iterdir()] == [".evaluation-recent"]
