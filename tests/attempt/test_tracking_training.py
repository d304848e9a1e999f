"""Real training with an MLflow server: `train` sends its metrics, and nothing else sends anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from include.attempt.attempt import TrainingAttempt
from include.attempt.manifest import TrainingManifest
from include.checkpoints.store import CheckpointStore
from include.datasets.check import inspect_dataset
from include.datasets.s3 import S3ObjectReader
from include.deployment.settings import Settings
from include.jobs.repository import JobRepository
from include.jobs.spec import ResolvedSpec
from include.s3.bucket import Bucket
from tests.support.jobs import claim, resolved, small_detection
from tests.support.mlflow_server import PASSWORD, USERNAME, MlflowServer
from tests.support.tiny_datasets import build
from tests.support.tiny_trainings import Epochs, request
from tests.support.untrained import stored_start

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.stack.s3 import S3


EXPERIMENT = "a training"


@pytest.fixture
def worker(mlflow: MlflowServer, training_url: str, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment variables of a worker: MLflow's settings and Airflow's connections."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.url)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USERNAME)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    # MLflow must not count as too slow here, however busy the machine is.
    monkeypatch.setattr("include.attempt.tracking._LAST_SECONDS", 120)
    client = {
        "conn_type": "aws",
        "login": s3.access_key,
        "password": s3.secret_key,
        "extra": {"endpoint_url": s3.endpoint_url, "region_name": s3.region},
    }
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_DB", training_url)
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_S3", json.dumps(client))


def train(spec: ResolvedSpec, folder: Path, training_url: str, store: CheckpointStore) -> TrainingManifest:
    """Run the first attempt of the task `train`, after claiming the job and checking its dataset."""
    settings = Settings("unused", folder, dataset_folders=(folder.parent,), is_cpu_worker=True)
    reader = S3ObjectReader(store._bucket.client)
    cache, roots = settings.dataset_cache, settings.dataset_roots
    dataset = inspect_dataset(spec.dataset, "detect", cache, reader, roots).reference
    with psycopg.connect(training_url) as connection:
        claim(JobRepository(connection), spec=spec.model_dump(mode="json", exclude={"job_id"}))
    return TrainingAttempt(resolved(spec), dataset, 1, settings, lambda: store).run()


@pytest.mark.long
@pytest.mark.usefixtures("worker")
def test_a_training_run_is_in_mlflow_when_train_has_ended(
    mlflow: MlflowServer, training_url: str, s3_client: S3Client, bucket: str, tmp_path: Path
) -> None:
    build("detect", tmp_path / "data", train=8, val=4)
    model = stored_start(s3_client, bucket, tmp_path)
    spec = small_detection(tmp_path / "data" / "data.yaml", model, plots=False)
    store = CheckpointStore(Bucket(s3_client, bucket), run_id="run1")

    manifest = train(spec, tmp_path / "training", training_url, store)

    (run,) = mlflow.runs(EXPERIMENT, "a")
    assert run["status"] == "FINISHED"
    assert (run["params"]["imgsz"], run["params"]["plots"]) == ("64", "False")
    for checkpoint, kind in manifest.list_checkpoints():
        assert run["tags"][f"checkpoint.{kind}.path"] == store.build_uri("a", kind)
        assert run["tags"][f"checkpoint.{kind}.sha256"] == checkpoint.sha256
        assert run["tags"][f"checkpoint.{kind}.size"] == str(checkpoint.size)
    with psycopg.connect(training_url) as connection:
        epochs = JobRepository(connection).list_epochs("a")
    recorded = [(epoch.epoch, epoch.metrics["train/box_loss"]) for epoch in epochs]
    assert mlflow.history(run, "train/box_loss") == recorded
    assert len(recorded) == 2
    assert "best/metrics/mAP50B" in run["metrics"]


def _integrations(trainer: Any) -> set[str]:
    return {
        callback.__module__
        for callbacks in trainer.callbacks.values()
        for callback in callbacks
        if callback.__module__.startswith("ultralytics.utils.callbacks.")
    }


def test_ultralytics_own_mlflow_callback_stays_off(tmp_path: Path) -> None:
    from ultralytics.models.yolo.detect import DetectionTrainer
    from ultralytics.utils import SETTINGS

    from include.training.run import build_trainer

    assert SETTINGS["mlflow"] is True
    with build_trainer(request("detect", tmp_path), Epochs()) as trainer:
        ours = _integrations(trainer)
        theirs = _integrations(DetectionTrainer(overrides=dict(vars(trainer.args))))
    assert "ultralytics.utils.callbacks.mlflow" in theirs
    assert ours <= {"ultralytics.utils.callbacks.base"}
