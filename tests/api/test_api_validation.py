"""Parameters are checked over REST before a run is triggered: every error is reported with its field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import requests

from include.jobs.repository import JobRepository
from tests.support.jobs import claim, record_checkpoints, started

Errors = Callable[[dict[str, Any]], dict[str, str]]


@pytest.fixture
def errors_of(api_url: str) -> Errors:
    def post(params: dict[str, Any]) -> dict[str, str]:
        answer = requests.post(f"{api_url}/validate", json=params, timeout=60)
        assert answer.status_code == 200, answer.text
        errors: dict[str, str] = answer.json()["errors"]
        return errors

    return post


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"job_id": "new", "dataset": "digits", "model": "yolo11n", "epochs": 3, "device": "0,1"},
        {"epochs": None, "overrides": None, "dataset": "", "model": " "},
    ],
)
def test_valid_parameters_have_no_errors(errors_of: Errors, params: dict[str, Any]) -> None:
    assert errors_of(params) == {}


@pytest.mark.parametrize(
    ("params", "field", "message"),
    [
        ({"epochs": 0}, "epochs", "epochs=0 is refused: input should be greater than or equal to 1"),
        ({"model": "yolo99n"}, "model", "model='yolo99n'"),
        ({"model": "yolo11n-seg"}, "model", "model='yolo11n-seg' is a model for segment"),
        ({"task": "pose"}, "dataset", "dataset=None does not go with task='pose'"),
        ({"dataset": "../x"}, "dataset", "dataset='../x' is not an absolute path"),
        ({"dataset": "digits@1"}, "dataset", "dataset='digits@1' is not an absolute path"),
        ({"dataset": "ftp://host/data.zip"}, "dataset", "datasets are not fetched from such addresses"),
        ({"overrides": {"mosiac": 1}}, "overrides", "mosiac"),
        ({"overrides": {"epochs": 1}}, "overrides", "epochs is a separate parameter"),
        ({"device": "0,1", "batch": 5}, "batch", "batch=5 cannot be shared by 2 GPUs"),
        ({"device": "0,1", "overrides": {"rect": True}}, "overrides", "rect=True does not work with 2 GPUs"),
        (
            {"overrides": {"pretrained": True}},
            "overrides",
            "pretrained=true has no effect with model='yolo11n'",
        ),
        ({"dataset": "parts@3"}, "dataset", "dataset='parts@3' is not registered"),
        ({"model": "job:nobody"}, "model", "model='job:nobody': there is no such job"),
        ({"device": "1,1"}, "device", "device='1,1' names a GPU twice"),
        ({"job_id": "no/slash"}, "job_id", "job_id='no/slash' is refused."),
        ({"resume_from": "a", "job_id": "a"}, "resume_from", "resume_from='a' is this job itself"),
        ({"resume_from": "nobody"}, "resume_from", "resume_from='nobody' does not exist in training_jobs"),
        ({"epoch": 3}, "epoch", "epoch is not a parameter of train_yolo"),
        ({"publish_interval": 5}, "publish_interval", "is no longer a parameter; use publish_seconds"),
    ],
)
def test_an_error_is_reported_for_its_field(
    errors_of: Errors, params: dict[str, Any], field: str, message: str
) -> None:
    errors = errors_of(params)
    assert list(errors) == [field]
    assert message in errors[field]


def test_every_wrong_field_has_its_own_sentence(errors_of: Errors) -> None:
    errors = errors_of({"epochs": 0, "imgsz": 8, "optimizer": "sgd", "batch": 0})
    assert set(errors) == {"epochs", "imgsz", "optimizer", "batch"}
    for field, sentence in errors.items():
        assert sentence.startswith(f"{field}=")
        assert "also wrong" not in sentence


def test_a_taken_name_and_a_job_that_cannot_be_resumed_are_reported(
    errors_of: Errors, jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    started(jobs)
    record_checkpoints(connection)
    assert errors_of({"job_id": "a"})["job_id"].startswith("job_id='a' is already completed")
    assert errors_of({"job_id": "a", "fresh": True}) == {}
    assert "has no last.pt in S3" in errors_of({"resume_from": "a"})["resume_from"]


def test_validation_writes_nothing(
    errors_of: Errors, jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    claim(jobs, "a")
    connection.execute(
        "INSERT INTO training_jobs (job_id, status) VALUES ('of a host application', 'queued')"
    )
    connection.commit()
    before = connection.execute("SELECT * FROM training_jobs").fetchall()
    connection.rollback()
    errors_of({"job_id": "a"})
    errors_of({"job_id": "of a host application", "epochs": 0})
    assert connection.execute("SELECT * FROM training_jobs").fetchall() == before


@pytest.mark.parametrize("body", ["[]", "5", "null", '"text"', "{"])
def test_a_body_that_is_not_a_json_object_is_refused(api_url: str, body: str) -> None:
    answer = requests.post(
        f"{api_url}/validate", data=body, headers={"Content-Type": "application/json"}, timeout=60
    )
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_unprintable_characters_are_escaped(errors_of: Errors) -> None:
    for name in ("\u202emodel", "a\0b", "\ud800"):
        (field,) = errors_of({name: 1})
        assert field.isprintable()
