"""The tasks of promote_model promote the version in a run's conf, and announce the promotion."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.execution_time.context import OutletEventAccessors

from include.models.repository import ModelRepository
from include.models.version import ModelVersion
from include.orchestration.assets import PRODUCTION_MODEL
from include.tasks.promote_model import choose_version, promote_chosen
from tests.support.model_keys import new_key, private_pem, public_pem
from tests.support.model_versions import version_of
from tests.support.stored_objects import body

if TYPE_CHECKING:
    from pathlib import Path

    from mypy_boto3_s3 import S3Client


pytestmark = pytest.mark.usefixtures("airflow_connections")


@pytest.fixture
def two_versions(
    connection: psycopg.Connection[Any], s3_client: S3Client, bucket: str
) -> tuple[ModelVersion, ModelVersion]:
    """Two candidates."""
    first, second = (version_of(connection, s3_client, bucket, content) for content in (b"one", b"two"))
    return first, second


def give_keys(
    monkeypatch: pytest.MonkeyPatch, private: str | None, public: list[str], folder: Path | None
) -> None:
    """Give this process the keys: as files in `folder` or, without a folder, as text."""
    connection: dict[str, Any] = {"conn_type": "generic", "password": private}
    trusted = "\n".join(public)
    if folder:
        files = [folder / f"{number}.pem" for number in range(len(public))]
        for file, pem in zip(files, public, strict=True):
            file.write_text(pem)
        trusted = os.pathsep.join(map(str, files))
        (folder / "private.pem").write_text(private or "")
        connection = {"conn_type": "generic", "extra": {"path": str(folder / "private.pem")}}
    monkeypatch.setenv("MODEL_VERIFICATION_KEYS", trusted)
    if private is not None:
        monkeypatch.setenv("AIRFLOW_CONN_MODEL_SIGNING_KEY", json.dumps(connection))


def run(user: str | None = "ada", **conf: Any) -> Context:
    """Return the context that Airflow gives the tasks of a run with this conf."""
    dag_run = SimpleNamespace(
        conf=conf, run_id="manual__1", run_after=datetime.now(UTC), triggering_user_name=user
    )
    return cast("Context", {"dag_run": dag_run, "outlet_events": OutletEventAccessors()})


def test_a_run_promotes_the_chosen_version_and_announces_it(
    two_versions: tuple[ModelVersion, ModelVersion],
    connection: psycopg.Connection[Any],
    s3_client: S3Client,
    bucket: str,
) -> None:
    context = run(name="digits", version=2, reason="better")
    chosen = choose_version(context)
    promoted = promote_chosen(chosen, context)
    assert (promoted.version, promoted.promoted_by, promoted.reason) == (2, "ada", "better")
    assert ModelRepository(connection).find_production("digits") == promoted
    assert body(s3_client, f"s3://{bucket}/models/digits/production/best.pt") == b"two"
    assert context["outlet_events"][PRODUCTION_MODEL].extra == {
        "name": "digits",
        "version": 2,
        "path": two_versions[1].path,
        "sha256": two_versions[1].sha256,
        "job_id": two_versions[1].job_id,
    }


def test_a_retried_rollback_goes_back_only_once(
    two_versions: tuple[ModelVersion, ModelVersion],
    connection: psycopg.Connection[Any],
    s3_client: S3Client,
    bucket: str,
) -> None:
    version_of(connection, s3_client, bucket, b"three")
    for version in (1, 2, 3):
        context = run(name="digits", version=version)
        promote_chosen(choose_version(context), context)
    context = run(user=None, name="digits")
    chosen = choose_version(context)
    once, again = (promote_chosen(chosen, context) for _ in range(2))
    assert (once.version, once.promoted_by) == (2, "manual__1")
    assert again == once


@pytest.mark.parametrize("as_file", [True, False], ids=["as files", "as text"])
def test_a_worker_with_the_key_signs_the_version_that_it_promotes(
    as_file: bool,
    two_versions: tuple[ModelVersion, ModelVersion],
    s3_client: S3Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key, earlier = new_key(), new_key()
    give_keys(
        monkeypatch, private_pem(key), [public_pem(earlier), public_pem(key)], tmp_path if as_file else None
    )
    context = run(name="digits", version=1)
    promoted = promote_chosen(choose_version(context), context)
    key.public.verify(body(s3_client, promoted.signature_path), promoted)


@pytest.mark.parametrize(
    ("private", "public", "message"),
    [
        ("x", public_pem(new_key()), "Connection model_signing_key contains no private key in PEM"),
        (private_pem(new_key()), "x", "MODEL_VERIFICATION_KEYS=.* contains no public key in PEM; give"),
        (private_pem(new_key()), public_pem(new_key()), "MODEL_VERIFICATION_KEYS lacks the public key of"),
        (
            None,
            public_pem(new_key()),
            "version 1 of model digits cannot be promoted: .* no connection model_s",
        ),
    ],
)
def test_keys_that_cannot_sign_are_named_and_nothing_is_promoted(
    private: str | None,
    public: str,
    message: str,
    two_versions: tuple[ModelVersion, ModelVersion],
    connection: psycopg.Connection[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    give_keys(monkeypatch, private, [public], tmp_path)
    context = run(name="digits", version=1)
    chosen = choose_version(context)
    with pytest.raises(AirflowFailException, match=message):
        promote_chosen(chosen, context)
    assert ModelRepository(connection).find_production("digits") is None


def test_the_second_of_two_concurrent_promotions_fails_without_retry(
    two_versions: tuple[ModelVersion, ModelVersion],
) -> None:
    first, second = run(name="digits", version=1), run(name="digits", version=2)
    chosen = [choose_version(context) for context in (first, second)]
    promote_chosen(chosen[0], first)
    with pytest.raises(AirflowFailException, match="but version 1 is in production now"):
        promote_chosen(chosen[1], second)
    assert not list(second["outlet_events"])


def test_an_invalid_promotion_fails_without_retry(two_versions: tuple[ModelVersion, ModelVersion]) -> None:
    with pytest.raises(AirflowFailException, match="versoin is not a parameter of promote_model"):
        choose_version(run(name="digits", versoin=2))
    with pytest.raises(AirflowFailException, match="version=3 of model digits does not exist"):
        choose_version(run(name="digits", version=3))
