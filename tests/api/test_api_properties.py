"""Every answer matches the OpenAPI document, even if the request does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import psycopg
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from include.api.app import PREFIX, create_app
from include.api.pages import encode_cursor
from include.jobs.repository import JobRepository
from include.stack.local import Stack
from include.stack.ports import open_session
from tests.support.api_client import get, token
from tests.support.jobs import claim, epoch_report

pytestmark = pytest.mark.timeout(600)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
NAMED: dict[str, list[Any]] = {
    "job_id": ["property-trained", "property-ended", "property host application"],
    "name": ["property"],
    "version": [1],
    "kind": ["best", "last"],
}
"""Values of existing paths. None of these jobs waits or runs, so their event streams end immediately."""
CURSORS = [
    encode_cursor("2026-01-01 00:00:00+00", "property-trained"),
    encode_cursor("-infinity", ""),
    encode_cursor("infinity", "z"),
    encode_cursor("no moment", "z"),
    encode_cursor("property", 1),
    encode_cursor("a\0", "\0"),
]


def _of(made_up: Any) -> dict[str, Any]:
    """Return generated values; schemathesis wraps values that the document forbids."""
    return getattr(made_up, "value", made_up) or {}


def _with(made_up: Any, existing: dict[str, Any]) -> Any:
    if isinstance(made_up, dict) or made_up is None:
        return _of(made_up) | existing
    return made_up


@pytest.fixture(scope="module")
def seeded(api_stack: Stack, api_stack_connection: psycopg.Connection[Any]) -> Iterator[Stack]:
    """Yield the stack with jobs and a version of a model, so that requests find something."""
    jobs = JobRepository(api_stack_connection)
    claim(jobs, "property-trained", "run1", spec={"model": "yolo11n", "dataset": "digits"})
    jobs.start_training("property-trained", "run1", 1, first_epoch=0)
    for epoch in range(3):
        jobs.record_epoch("property-trained", "run1", 1, epoch_report(epoch, loss=0.5))
        jobs.record_durable("property-trained", "run1", 1, epoch)
    claim(jobs, "property-ended", "run2", parent_job_id="property-trained", resumed_epoch=2)
    api_stack_connection.execute("UPDATE training_jobs SET status = 'failed' WHERE job_id LIKE 'property%'")
    api_stack_connection.execute(
        "INSERT INTO training_jobs (job_id, status, spec, metrics, created_at) "
        "VALUES ('property host application', 'stopped', '5', '[]', 'infinity')"
    )
    api_stack_connection.execute(
        "INSERT INTO model_versions (name, version, job_id, path, sha256, size) "
        "VALUES ('property', 1, 'property-trained', 's3://bucket/best.pt', 'abc', 1)"
    )
    yield api_stack
    for table in ("training_jobs", "training_epochs", "model_versions"):
        api_stack_connection.execute(f"DELETE FROM {table} WHERE job_id LIKE 'property%'")


@pytest.fixture(scope="module")
def admin(seeded: Stack) -> Iterator[requests.Session]:
    with open_session() as session:
        session.headers["Authorization"] = f"Bearer {token(seeded, 'admin')}"
        yield session


@pytest.fixture(scope="module")
def described(seeded: Stack) -> Any:
    """Return the document as it is served; its requests use made-up values, and some existing ones."""
    document = get(seeded, "/openapi.json", token(seeded, "admin")).json()
    described = schemathesis.openapi.from_dict(document)
    described.config.update(base_url=f"{seeded.url}{PREFIX}")

    @described.hook
    def before_generate_path_parameters(context: Any, strategy: Any) -> Any:
        named = {name: st.sampled_from(values) for name, values in NAMED.items()}
        return strategy | st.builds(
            lambda made_up, existing: _with(
                made_up, {name: existing[name] for name in existing if name in _of(made_up)}
            ),
            strategy,
            st.fixed_dictionaries(named),
        )

    @described.hook
    def before_generate_query(context: Any, strategy: Any) -> Any:
        if "{" in context.operation.path or context.operation.path == "/session":
            return strategy
        return strategy | st.builds(
            lambda made_up, cursor: _with(made_up, {"cursor": cursor}), strategy, st.sampled_from(CURSORS)
        )

    return described


OPERATIONS = [
    (path, method) for path, operations in create_app().openapi()["paths"].items() for method in operations
]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_responses_are_those_that_the_document_describes(
    described: Any,
    admin: requests.Session,
    pytestconfig: pytest.Config,
    path: str,
    method: str,
    mode: GenerationMode,
) -> None:
    """Positive mode generates requests that the document allows, negative mode those that it forbids."""
    sent = 0

    @given(case=described[path][method].as_strategy(generation_mode=mode))
    @settings(
        max_examples=pytestconfig.getoption("--fuzz-inputs") // 5,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def answered(case: Any) -> None:
        nonlocal sent
        # Starlette finds no mount for a path with a line break, so Airflow itself answers.
        assume("\n" not in unquote(case.formatted_path))
        sent += 1
        case.validate_response(case.call(session=admin, allow_redirects=False, timeout=30), checks=CHECKS)

    answered()
    assert sent
