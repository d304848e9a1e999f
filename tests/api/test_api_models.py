"""Model versions over REST: filters, pages, and errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from include.models.repository import ModelRepository
from include.stack.local import Stack

pytestmark = pytest.mark.timeout(600)

NAME = "of-the-api"


@pytest.fixture(autouse=True, scope="module")
def models(api_stack_connection: psycopg.Connection[Any]) -> Iterator[ModelRepository]:
    """Versions 1 to 5 (rejected, archived, production, candidate, candidate), and one of another model."""
    models = ModelRepository(api_stack_connection)
    for number in range(1, 6):
        models.register(
            NAME,
            job_id=f"job-{number}",
            run_id="scheduled__1",
            sha256=f"{number}" * 64,
            size=1000 + number,
            place=lambda version: f"s3://bucket/models/{NAME}/versions/{version}/best.pt",
            metrics={"metrics/mAP50(B)": number / 10},
            reason="measured",
        )
    models.register(
        f"{NAME}-too", job_id="job", run_id=None, sha256="a" * 64, size=1, place=lambda _: "s3://b/best.pt"
    )
    models.reject(NAME, 1, "too weak")
    models.promote(NAME, 2, by="ada", reason=None)
    models.promote(NAME, 3, by="ada", reason="better")
    yield models
    api_stack_connection.execute("DELETE FROM model_versions WHERE name LIKE %s", [f"{NAME}%"])


def versions(answer: Any) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [each["version"] for each in answer.json()["models"]]


def test_a_version_is_shown_as_it_is_recorded(ask: Any, models: ModelRepository) -> None:
    shown = ask(f"/models/{NAME}/3").json()
    assert shown == models.require(NAME, 3).model_dump(mode="json")
    assert (shown["stage"], shown["promoted_by"], shown["reason"]) == ("production", "ada", "better")
    assert shown["metrics"] == {"metrics/mAP50(B)": 0.3}


def test_the_newest_version_comes_first(ask: Any) -> None:
    assert versions(ask("/models", name=NAME)) == [5, 4, 3, 2, 1]
    assert {each["name"] for each in ask("/models").json()["models"]} >= {NAME, f"{NAME}-too"}


@pytest.mark.parametrize(
    ("stage", "found"), [("candidate", [5, 4]), ("production", [3]), ("archived", [2]), ("rejected", [1])]
)
def test_versions_can_be_filtered_by_stage(ask: Any, stage: str, found: list[int]) -> None:
    assert versions(ask("/models", name=NAME, stage=stage)) == found


def test_pages_follow_each_other_and_a_newer_version_does_not_shift_them(
    ask: Any, models: ModelRepository, api_stack_connection: psycopg.Connection[Any]
) -> None:
    seen, cursor = [], None
    while True:
        page = ask("/models", name=NAME, limit=2, **({"cursor": cursor} if cursor else {}))
        seen.append(versions(page))
        cursor = page.json()["next"]
        if cursor is None:
            break
        if len(seen) == 1:
            models.register(
                NAME, job_id="new", run_id=None, sha256="f" * 64, size=1, place=lambda _: "s3://b/best.pt"
            )
    api_stack_connection.execute("DELETE FROM model_versions WHERE name = %s AND version = 6", [NAME])
    assert seen == [[5, 4], [3, 2], [1]]


def test_a_model_without_versions_has_an_empty_page(ask: Any) -> None:
    assert ask("/models", name="nobody").json() == {"models": [], "next": None}


@pytest.mark.parametrize(
    ("path", "query", "status", "message"),
    [
        (
            f"/models/{NAME}/9",
            {},
            404,
            "version=9 of model of-the-api does not exist: its versions are 1 to 5",
        ),
        ("/models/nobody/1", {}, 404, "name='nobody' is not a registered model: give one of"),
        (f"/models/{NAME}/zero", {}, 422, "version='zero' is refused"),
        (f"/models/{NAME}/0", {}, 422, "version='0' is refused"),
        (f"/models/{NAME}/99999999999", {}, 422, "version='99999999999' is refused"),
        ("/models", {"stage": "best"}, 422, "stage='best' is refused"),
        ("/models", {"limit": 0}, 422, "limit='0' is refused"),
        ("/models", {"limit": 201}, 422, "limit='201' is refused"),
        ("/models", {"stagge": "production"}, 422, "Unknown parameter stagge"),
        ("/models", {"cursor": "nonsense"}, 422, "cursor='nonsense' was not issued by this API"),
        ("/models", {"cursor": "WyJhIl0="}, 422, "was not issued by this API"),
        ("/models", {"name": "a\0b"}, 422, "A value is refused"),
    ],
)
def test_an_invalid_request_is_refused_with_one_sentence(
    ask: Any, path: str, query: dict[str, Any], status: int, message: str
) -> None:
    answer = ask(path, **query)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert message in answer.json()["detail"]


def test_an_outdated_schema_is_reported(ask: Any, api_stack_connection: psycopg.Connection[Any]) -> None:
    api_stack_connection.execute("ALTER TABLE model_versions RENAME TO elsewhere")
    try:
        answer = ask("/models")
    finally:
        api_stack_connection.execute("ALTER TABLE elsewhere RENAME TO model_versions")
    assert answer.status_code == 503
    assert "run the Dag migrate_schema" in answer.json()["detail"]


def test_an_outage_of_the_database_is_reported(
    ask: Any, api_stack: Stack, api_stack_connection: psycopg.Connection[Any]
) -> None:
    with psycopg.connect(api_stack.postgres.build_url("postgres"), autocommit=True) as server:
        training = sql.Identifier("training")
        server.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(training))
        # The API keeps connections open. Terminate them, as a restart of the server would.
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'training' AND pid <> %s",
            [api_stack_connection.info.backend_pid],
        )
        try:
            answer = ask("/models")
        finally:
            server.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(training))
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "10"
    assert "The training database does not respond" in answer.json()["detail"]
    assert "127.0.0.1" not in answer.text


def test_the_api_describes_itself(ask: Any) -> None:
    described = ask("/openapi.json").json()
    assert {"/jobs", "/jobs/{job_id}", "/models", "/models/{name}/{version}"} <= set(described["paths"])
    assert described["servers"] == [{"url": "/training/api/v1"}]
    for operations in described["paths"].values():
        for operation in operations.values():
            errors = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
            assert {"401", "403", "422", "503"} <= set(errors)
            assert all(list(answer["content"]) == ["application/problem+json"] for answer in errors.values())
