"""`make demo` and `make resume`, with a training run that takes seconds."""

from __future__ import annotations

import io
import os
import re
from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest
import requests
from rich.console import Console

from include.deployment.settings import DEFAULT_BUCKET
from include.stack.demo import TRAINING, describe_login, resume, run_demo
from include.stack.errors import StackError
from include.stack.local import Stack
from include.stack.steps import Steps
from tests.support.api_client import token
from tests.support.untrained import pretrained_tiny

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(600)

SECONDS = {"imgsz": 32, "epochs": 8, "overrides": {"fraction": 0.1, "plots": False}}


def _plain() -> tuple[Steps, io.StringIO]:
    shown = io.StringIO()
    return Steps(Console(file=shown, highlight=False)), shown


@pytest.fixture(scope="module")
def demonstrated(airflow_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the output of the demo."""
    model = pretrained_tiny(airflow_stack.s3.client(), DEFAULT_BUCKET, tmp_path_factory.mktemp("model"))
    steps, shown = _plain()
    run_demo(airflow_stack, steps, TRAINING | SECONDS | {"model": model})
    return shown.getvalue()


@pytest.mark.parametrize(
    ("job", "epochs", "sentence"),
    [
        ("my first", 10, "resume_from='my first' is refused. resume_from: Job to continue"),
        ("my-first", 0, "epochs=0 is refused: input should be greater than or equal to 1."),
    ],
)
def test_a_wrong_job_or_number_of_epochs_is_refused_before_anything_starts(
    job: str, epochs: int, sentence: str, tmp_path: Path
) -> None:
    steps, shown = _plain()
    with pytest.raises(StackError) as refusal:
        resume(Stack.at(tmp_path), steps, job, epochs)
    assert str(refusal.value).startswith(sentence)
    assert not shown.getvalue()


def test_the_demo_shows_every_epoch(demonstrated: str) -> None:
    assert re.findall(r"epoch \d/8.*  loss: box \d+\.\d+ .* mAP50 \d", demonstrated)


def test_the_training_run_of_the_demo_is_killed_and_resumes(demonstrated: str) -> None:
    assert "train: killed with kill -9" in demonstrated
    assert re.search(
        r"Airflow starts attempt 2 automatically(?s:.*)completed, epoch 8 of 8, in 2 att", demonstrated
    )


def test_the_demo_shows_the_row_and_both_objects(demonstrated: str) -> None:
    assert re.search(r"Job demo-\S+ in training_jobs: completed, epoch 8 of 8", demonstrated)
    assert len(re.findall(r"MB, SHA-256 [0-9a-f]{64}", demonstrated)) == 2


def test_the_demo_prints_the_url_of_its_training_run(airflow_stack: Stack, demonstrated: str) -> None:
    shown = re.findall(r"(http\S+)/plugin/trainings(/training/console/\S+)", demonstrated)
    assert len(shown) == 2
    bearer = {"Authorization": f"Bearer {token(airflow_stack, 'viewer')}"}
    for server, page in shown:
        assert requests.get(f"{server}{page}", headers=bearer, timeout=60).status_code == 200


def test_the_demo_writes_no_secret_into_a_log(
    airflow_stack: Stack, demonstrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = [value for name, value in asdict(airflow_stack.credentials).items() if name != "identity"]
    assert not [secret for secret in secrets if secret in demonstrated]
    assert "user admin; `make env` prints the password (AIRFLOW_PASSWORD)" in demonstrated
    monkeypatch.setenv("FORCE_COLOR", "1")
    steps, _ = _plain()
    assert airflow_stack.password not in describe_login(airflow_stack, steps)


def test_the_demo_shows_the_password_on_a_terminal(airflow_stack: Stack) -> None:
    _, terminal = os.openpty()
    with os.fdopen(terminal, "w") as file:
        shown = describe_login(airflow_stack, Steps(Console(file=file)))
    assert shown == f"user admin, password {airflow_stack.password}"


def test_the_command_that_the_demo_prints_continues_its_training_run(
    airflow_stack: Stack, demonstrated: str
) -> None:
    shown = re.search(r"make resume JOB=(\S+) EPOCHS=(\d+)", demonstrated)
    assert shown is not None
    steps, output = _plain()
    resume(airflow_stack, steps, shown[1], 9)
    epochs = re.findall(r"epoch (\d)/9", output.getvalue())
    assert epochs == ["9"]
    assert "completed, epoch 9 of 9" in output.getvalue()


def test_a_run_that_fails_ends_with_the_reason(airflow_stack: Stack, demonstrated: str) -> None:
    steps, _ = _plain()
    with pytest.raises(StackError, match=r"The log of task resolve_config ends with:\n(?s:.*)never-trained"):
        resume(airflow_stack, steps, "never-trained", 3)
