"""`make dataset` uploads a zip or a folder and registers it, or gives the reason for refusing it."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import signal
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from include.deployment.settings import DEFAULT_BUCKET
from include.stack import datasets
from include.stack.airflow_api import AirflowApi, ApiUnavailable
from include.stack.datasets import upload_dataset
from include.stack.errors import StackError
from include.stack.local import Stack
from include.stack.steps import Steps
from tests.support.airflow_client import Airflow
from tests.support.tiny_datasets import build

pytestmark = pytest.mark.timeout(600)


def upload_until_killed(*arguments: Any) -> None:
    """Upload one file at a time, and be killed before the twentieth."""
    send, number = datasets._send_part, itertools.count(1)

    def send_or_die(*part: Any) -> int:
        if next(number) == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        return send(*part)

    datasets._AT_ONCE = 1
    datasets._send_part = send_or_die  # type: ignore[assignment]
    upload_dataset(*arguments)


def test_a_folder_whose_upload_was_interrupted_and_then_a_zip_become_versions(
    airflow_stack: Stack, api: Airflow, tmp_path: Path
) -> None:
    folder = tmp_path / "signs"
    build("detect", folder, train=60)
    (folder / ".DS_Store").write_bytes(b"x")
    s3 = airflow_stack.s3.client()

    def stored() -> dict[str, datetime]:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=DEFAULT_BUCKET, Prefix="uploads/")
        found = {each["Key"]: each["LastModified"] for page in pages for each in page.get("Contents", [])}
        return {key: when for key, when in found.items() if key not in earlier and "/images/" in key}

    earlier: dict[str, datetime] = {}
    earlier = stored()
    console = Console(file=io.StringIO(), width=200)
    arguments = airflow_stack, Steps(console), folder, "by-make", "detect"
    uploading = get_context("fork").Process(target=upload_until_killed, args=arguments)
    uploading.start()
    uploading.join()
    assert uploading.exitcode == -signal.SIGKILL
    first = stored()
    assert 5 <= len(first) < 60

    upload_dataset(*arguments)

    assert first.items() < stored().items()  # not sent again
    assert len({key.split("/")[1] for key in stored()}) == 1
    build("detect", folder, train=9)
    packed = Path(shutil.make_archive(str(tmp_path / "signs"), "zip", folder))
    upload_dataset(airflow_stack, Steps(console), packed, "by-make", "detect")
    lines = console.file.getvalue()  # type: ignore[attr-defined]
    assert "dataset=by-make@1" in lines
    assert "dataset=by-make@2" in lines
    assert f"{airflow_stack.url}/plugin/trainings/training/console/dataset?name=by-make&version=2" in lines


def test_an_upload_is_not_sent_again_if_only_its_check_could_not_be_started(
    airflow_stack: Stack, api: Airflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "signs.zip").write_bytes(b"PK")
    arguments = airflow_stack, Steps.quiet(), tmp_path / "signs.zip", "by-outage", "detect"
    ask, send, sent = AirflowApi.call_training_api, datasets._send_part, []

    def fail(own: AirflowApi, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        if path.endswith("/versions"):
            raise ApiUnavailable("Airflow is restarting")
        return ask(own, method, path, body)

    def note(*part: Any) -> int:
        sent.append(part)
        return send(*part)

    monkeypatch.setattr(AirflowApi, "call_training_api", fail)
    monkeypatch.setattr(datasets, "_send_part", note)
    for _ in range(2):
        with pytest.raises(ApiUnavailable, match="Airflow is restarting"):
            upload_dataset(*arguments)
    assert len(sent) == 1


def test_two_commands_that_upload_the_same_files_simultaneously_both_succeed(
    airflow_stack: Stack, api: Airflow, tmp_path: Path
) -> None:
    build("detect", tmp_path / "twice")
    arguments = airflow_stack, Steps.quiet(), tmp_path / "twice", "by-two", "detect"
    both = [get_context("fork").Process(target=upload_dataset, args=arguments) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert [each.exitcode for each in both] == [0, 0]


def test_data_that_fail_the_check_are_refused_with_the_reason(
    airflow_stack: Stack, api: Airflow, tmp_path: Path
) -> None:
    build("detect", tmp_path / "bad")
    (tmp_path / "bad/labels/train/3.txt").write_text("7 0.5 0.5 0.1 0.1\n")
    with pytest.raises(StackError, match=r"The dataset was not registered: (?s:.*)class 7"):
        upload_dataset(airflow_stack, Steps.quiet(), tmp_path / "bad", "by-make-bad", "detect")


@pytest.mark.parametrize(
    ("file", "name", "sentence"),
    [
        ("absent.zip", "x", "does not exist"),
        ("one.jpg", "x", "alone is not a dataset"),
        ("one.zip", "../x", "name='../x' is refused"),
        ("one.zip", "digits", "name='digits' is refused"),
    ],
)
def test_data_that_cannot_be_sent_are_refused_with_the_reason(
    airflow_stack: Stack, api: Airflow, tmp_path: Path, file: str, name: str, sentence: str
) -> None:
    (tmp_path / "one.jpg").write_bytes(b"x")
    (tmp_path / "one.zip").write_bytes(b"PK")
    with pytest.raises(StackError, match=sentence):
        upload_dataset(airflow_stack, Steps.quiet(), tmp_path / file, name, "detect")


def test_a_stack_that_is_not_running_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"The stack is not running\. Start it with `make up`"):
        upload_dataset(Stack.at(tmp_path / "other"), Steps.quiet(), tmp_path, "x", "detect")
