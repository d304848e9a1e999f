"""Attacks that fail although a user may edit the XComs of a run."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException

from include.attempt.manifest import TrainingManifest
from include.checkpoints.checkpoint import Checkpoint
from include.claim.resolved_job import ResolvedJob
from include.datasets import digits
from include.jobs.spec import TrainingSpec
from include.tasks.train_yolo import notify_backend, train_job, upload_checkpoint
from include.tasks.training_operators import JobEnded

if TYPE_CHECKING:
    from airflow.sdk import Context

ROOT = Path(__file__).parents[2]
SERVED = sorted(
    path for part in ("api", "console", "serving") for path in (ROOT / "include" / part).rglob("*.py")
)

OTHERS = "manual__of-somebody-else"
CONTEXT = cast("Context", {"run_id": "manual__mine"})

JOB = ResolvedJob(
    job_id="theirs",
    dag_id="train_yolo",
    run_id=OTHERS,
    origin_run_id=OTHERS,
    spec=TrainingSpec().with_defaults(),
)
_FILE = Checkpoint(path="/etc/passwd", sha256="0" * 64, size=1, epoch=0)
MANIFEST = TrainingManifest(
    job_id="theirs",
    run_id=OTHERS,
    origin_run_id=OTHERS,
    best=_FILE,
    last=_FILE,
    epoch=0,
    epochs=1,
    start_epoch=0,
    metrics={},
    fitness=None,
    stop_reason="completed",
    seconds=1.0,
    device="cpu",
    ultralytics_version="8.4",
    keep_local=False,
)


@pytest.mark.parametrize(
    "task",
    [
        lambda: train_job(JOB, digits.build_reference(), CONTEXT),
        lambda: upload_checkpoint(MANIFEST, "best", CONTEXT),
        lambda: upload_checkpoint(MANIFEST, "last", CONTEXT),
        lambda: notify_backend(JOB, CONTEXT),
    ],
    ids=["train", "upload_best", "upload_last", "notify_backend"],
)
def test_an_xcom_that_names_another_run_is_refused_before_anything_is_touched(
    task: Callable[[], Any],
) -> None:
    with pytest.raises(AirflowFailException, match="says run_id='manual__of-somebody-else', but the run is"):
        task()


def test_a_trigger_stores_only_names_and_times() -> None:
    _, values = JobEnded("job", "run", 1.0).serialize()
    assert values == {"job_id": "job", "run_id": "run", "deadline": 1.0, "pause": 5.0}


def _names(tree: ast.AST) -> set[str]:
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    modules = {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return imported | modules | used | attributes


@pytest.mark.parametrize("path", SERVED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_api_server_never_deserialises_xcoms_or_executes_data(path: Path) -> None:
    names = _names(ast.parse(path.read_text(encoding="utf-8")))
    for forbidden in ("XCom", "XComModel", "xcom_pull", "pickle", "marshal", "eval", "exec", "import_module"):
        assert forbidden not in names
    assert not any("xcom" in name.lower() or "serialization" in name or ".serde" in name for name in names)


def test_airflow_may_not_deserialise_xcoms_into_any_class() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yaml").read_text(encoding="utf-8"))
    stack = (ROOT / "include" / "stack" / "airflow.py").read_text(encoding="utf-8")
    for text in (stack, str(compose)):
        assert "allowed_deserialization_classes" not in text.lower()
        assert "enable_xcom_pickling" not in text.lower()
