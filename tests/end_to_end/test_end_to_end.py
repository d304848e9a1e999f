"""The product as its users see it: training runs on a real scheduler, triggered over REST."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import airflow_client.client as airflow
import pytest

from include.deployment.settings import DEFAULT_BUCKET
from include.jobs.spec import DIGITS_MODEL
from include.stack.local import Stack
from tests.support.airflow_client import Airflow, download, job_row, recorded_epochs
from tests.support.dataset_steps import upload_zip
from tests.support.http_server import Handler, Server
from tests.support.secrets_kept import BACKEND_TOKEN, places_of, secrets_of
from tests.support.tiny_datasets import build
from tests.support.untrained import pretrained_tiny

pytestmark = pytest.mark.timeout(600)

SMALL = {"dataset": "digits", "imgsz": 32, "batch": 16, "overrides": {"fraction": 0.1, "plots": False}}


class Backend(Server):
    """A host application's backend, which keeps the callbacks that it receives."""

    def __init__(self) -> None:
        received: list[dict[str, Any]] = []

        class Called(Handler):
            def do_POST(self) -> None:
                headers = {"key": self.headers["Idempotency-Key"], "bearer": self.headers["Authorization"]}
                received.append(json.loads(self.body()) | headers)
                self.respond(204)

        super().__init__(Called)
        self.received = received


@pytest.fixture
def backend(api: Airflow) -> Iterator[Backend]:
    with Backend() as server:
        body = airflow.ConnectionBody(
            connection_id="training_backend",
            conn_type="http",
            host=f"{server.url}/training/completed",
            extra=json.dumps({"Authorization": f"Bearer {BACKEND_TOKEN}"}),
        )
        api.connections.post_connection(body)
        yield server
        api.connections.delete_connection("training_backend")


@pytest.fixture(scope="module")
def get_row(airflow_stack: Stack) -> Callable[[str], dict[str, Any]]:
    return partial(job_row, airflow_stack)


@pytest.fixture(scope="module")
def finished_job(api: Airflow, airflow_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Train a job of two epochs on the bundled digits; return its id."""
    model = pretrained_tiny(airflow_stack.s3.client(), DEFAULT_BUCKET, tmp_path_factory.mktemp("model"))
    api.run("train_yolo", {"job_id": "two-epochs", "epochs": 2, "model": model, **SMALL})
    return "two-epochs"


def test_a_job_ends_with_both_checkpoints_in_s3_and_both_in_its_row(
    api: Airflow,
    airflow_stack: Stack,
    get_row: Callable[[str], dict[str, Any]],
    finished_job: str,
    tmp_path: Path,
) -> None:
    job = get_row(finished_job)
    assert (job["status"], job["epoch"], job["epochs"], job["error"]) == ("completed", 1, 2, None)
    assert 0 <= job["metrics"]["metrics/mAP50(B)"] <= 1
    for kind in ("best", "last"):
        path = job[f"{kind}_checkpoint_path"]
        assert path == f"s3://training-checkpoints/checkpoints/{finished_job}/{kind}.pt"
        content = download(airflow_stack, path, tmp_path / f"{kind}.pt").read_bytes()
        assert hashlib.sha256(content).hexdigest() == job[f"{kind}_checkpoint_sha256"]
        assert len(content) == job[f"{kind}_checkpoint_size"]
    assert recorded_epochs(airflow_stack, finished_job) == [0, 1]


def test_last_pt_in_s3_is_the_whole_state_and_best_pt_predicts(
    airflow_stack: Stack, get_row: Callable[[str], dict[str, Any]], finished_job: str, tmp_path: Path
) -> None:
    import numpy as np
    from ultralytics import YOLO
    from ultralytics.nn.tasks import torch_safe_load

    job = get_row(finished_job)
    last = download(airflow_stack, job["last_checkpoint_path"], tmp_path / "last.pt")
    state, _ = torch_safe_load(str(last), safe_only=True)
    assert state["epoch"] == 1
    assert state["optimizer"]["state"]
    assert state["ema"] is not None
    best = download(airflow_stack, job["best_checkpoint_path"], tmp_path / "best.pt")
    assert best.stat().st_size < last.stat().st_size
    assert len(YOLO(best).predict(np.zeros((64, 64, 3), dtype=np.uint8), imgsz=64, device="cpu")) == 1


@pytest.mark.long
def test_a_job_without_a_model_trains_the_default_one_from_scratch(
    api: Airflow, get_row: Callable[[str], dict[str, Any]]
) -> None:
    api.run("train_yolo", {"job_id": "default-model", "epochs": 1, **SMALL})
    job = get_row("default-model")
    assert (job["status"], job["spec"]["model"]) == ("completed", DIGITS_MODEL)
    assert job["initial_weights_path"] is None


def test_local_files_are_deleted_after_both_objects_are_verified(
    airflow_stack: Stack, finished_job: str
) -> None:
    assert not (Path(airflow_stack.airflow.variables["TRAINING_ROOT"]) / finished_job).exists()


def test_a_resumed_job_continues_at_the_next_epoch_without_changing_its_parent(
    api: Airflow,
    airflow_stack: Stack,
    get_row: Callable[[str], dict[str, Any]],
    finished_job: str,
    backend: Backend,
    tmp_path: Path,
) -> None:
    before = get_row(finished_job)
    api.run("train_yolo", {"job_id": "four-epochs", "resume_from": finished_job, "epochs": 4})
    job = get_row("four-epochs")
    assert (job["status"], job["parent_job_id"], job["epoch"], job["epochs"]) == (
        "completed",
        finished_job,
        3,
        4,
    )
    assert job["resumed_epoch"] == 1
    assert job["spec"]["imgsz"] == SMALL["imgsz"]
    assert recorded_epochs(airflow_stack, "four-epochs") == [0, 1, 2, 3]

    from include.training.loading import load_checkpoint

    def steps(uri: str) -> float:
        state = load_checkpoint(download(airflow_stack, uri, tmp_path / "state.pt"))
        return max(float(s["step"]) for s in state["optimizer"]["state"].values() if "step" in s)

    assert steps(job["last_checkpoint_path"]) > steps(before["last_checkpoint_path"])
    assert get_row(finished_job) == before
    (notification,) = backend.received
    assert notification["job_id"] == "four-epochs"
    assert notification["bearer"] == f"Bearer {BACKEND_TOKEN}"
    assert notification["last_checkpoint_path"] == job["last_checkpoint_path"]
    assert notification["best_checkpoint_sha256"] == job["best_checkpoint_sha256"]


def test_a_completed_job_is_refused_and_its_row_is_unchanged(
    api: Airflow, get_row: Callable[[str], dict[str, Any]], finished_job: str
) -> None:
    before = get_row(finished_job)
    run_id = api.trigger("train_yolo", {"job_id": finished_job, "epochs": 2, **SMALL})
    assert api.wait("train_yolo", run_id) == "failed"
    tasks = api.tasks("train_yolo", run_id)
    assert (tasks["resolve_config"], tasks["train"]) == ("failed", "upstream_failed")
    assert get_row(finished_job) == before


def test_rest_refuses_a_bad_job_id_before_a_run_exists(api: Airflow) -> None:
    with pytest.raises(airflow.exceptions.BadRequestException, match="job_id"):
        api.trigger("train_yolo", {"job_id": "../../etc/passwd"})


def test_a_data_yaml_in_training_root_cannot_read_files_of_the_worker(
    api: Airflow, airflow_stack: Stack
) -> None:
    """Data from a bucket are unpacked into TRAINING_ROOT, and must not be usable as a local dataset."""
    settings = airflow_stack.airflow.home / "airflow.cfg"
    content = Path(airflow_stack.airflow.variables["TRAINING_ROOT"]) / ".datasets" / "f" / "content"
    content.mkdir(parents=True)
    (content / "cred.yaml").write_text(f"train: {settings}\nval: images\nnames: [a]\n")
    allowed = Path(airflow_stack.airflow.variables["DATASET_ROOTS"])
    (allowed / "linked.yaml").symlink_to(content / "cred.yaml")
    (allowed / "cred.yaml").write_text((content / "cred.yaml").read_text())
    secret = airflow_stack.credentials.airflow_fernet_key
    assert secret in settings.read_text()
    attacks = {
        "fetched": (content / "cred.yaml", "is in TRAINING_ROOT"),
        "linked": (allowed / "linked.yaml", "is in TRAINING_ROOT"),
        "local": (allowed / "cred.yaml", "leads outside the dataset"),
    }
    runs = {
        name: api.trigger(
            "train_yolo", {"job_id": f"attack-{name}", "dataset": str(path), "model": "yolo11n"}
        )
        for name, (path, _) in attacks.items()
    }
    for name, (_, reason) in attacks.items():
        assert api.wait("train_yolo", runs[name]) == "failed"
        assert reason in job_row(airflow_stack, f"attack-{name}")["error"]
        assert secret not in json.dumps(job_row(airflow_stack, f"attack-{name}"), default=str)
        assert secret not in api.log("train_yolo", runs[name], "check_dataset", 1)


def test_data_that_are_too_large_fail_the_run_immediately_and_the_check_logs_into_the_task(
    api: Airflow, airflow_stack: Stack, get_row: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    build("detect", tmp_path / "data")
    os.truncate(tmp_path / "data" / "labels" / "val" / "0.txt", 60_000_000)
    dataset = upload_zip(airflow_stack.s3.client(), DEFAULT_BUCKET, tmp_path / "data", "bombs/data.zip")
    run_id = api.trigger("train_yolo", {"job_id": "too-much", "dataset": dataset, "model": "yolo11n"})
    assert api.wait("train_yolo", run_id) == "failed"
    assert api.attempt("train_yolo", run_id, "check_dataset")[1] == 1, "a retry would find the same problem"
    assert "val/0.txt: the file is 57.2 MiB, and the limit is 16 MiB" in get_row("too-much")["error"]
    log = api.log("train_yolo", run_id, "check_dataset", 1)
    assert "labels/val/0.txt: the file is 57.2 MiB" in log


def test_the_records_that_airflow_keeps_of_runs_contain_no_secret(
    airflow_stack: Stack, finished_job: str
) -> None:
    # This test is the last one in the file, so that it sees all runs of the file.
    found = places_of(airflow_stack, {"job": finished_job})
    for place in (
        "rows of xcom",
        "rows of rendered_task_instance_fields",
        "rows of dag_run",
        "task_id=train",
    ):
        assert any(place in each for each in found), place
    assert places_of(airflow_stack, secrets_of(airflow_stack)) == []
