"""A version is promoted and rolled back, byte for byte: on a real S3 and a real PostgreSQL."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from include.checkpoints.errors import CheckpointNotFound
from include.models.errors import NotRegistered, PromotionRefused, VersionUnknown
from include.models.promotion import find_version_to_promote, promote, register_copy
from include.models.repository import ModelRepository
from include.models.request import ChosenVersion, PromotionRequest
from include.models.version import ModelVersion, Stage
from include.request import RequestRefused
from include.s3.bucket import Bucket
from include.s3.errors import CorruptObject
from include.s3.local_file import TransferLimits
from tests.support.model_versions import promote_over_present, trained, version_of
from tests.support.stored_objects import body, metadata, replace

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


Connection = psycopg.Connection[Any]

IN_PARTS = TransferLimits(copied_at_once=5 * 1024**2)
LARGE = Random(7).randbytes(5 * 1024**2 + 77)


@pytest.fixture
def versions(
    versions: list[ModelVersion], connection: Connection, client: S3Client, bucket: str
) -> list[ModelVersion]:
    """Three versions of model digits; the first is in production."""
    promote_over_present(connection, Bucket(client, bucket), "digits", 1, by="ada", reason="the first")
    return versions


def test_a_registered_version_has_its_own_file(connection: Connection, client: S3Client, bucket: str) -> None:
    sha256 = trained(connection, client, bucket, "a", b"weights")
    version = register_copy(
        connection, Bucket(client, bucket), "digits", job_id="a", run_id="run1", metrics={"mAP50": 0.9}
    )
    assert (version.version, version.stage, version.metrics) == (1, Stage.CANDIDATE, {"mAP50": 0.9})
    assert version.path == f"s3://{bucket}/models/digits/versions/1/best.pt"
    assert (version.sha256, version.size) == (sha256, 7)
    replace(client, f"s3://{bucket}/checkpoints/a/best.pt", b"of a later training", {})
    assert body(client, version.path) == b"weights"
    assert metadata(client, version.path) == {
        "sha256": sha256,
        "epoch": "2",
        "job-id": "a",
        "run-id": "train%20run",
        "ultralytics-version": "8.4",
        "model": "digits",
        "model-version": "1",
    }


def test_an_object_that_a_crash_left_at_the_next_version_is_replaced(
    connection: Connection, client: S3Client, bucket: str
) -> None:
    replace(client, f"s3://{bucket}/models/digits/versions/1/best.pt", b"of another job", {})
    version = version_of(connection, client, bucket, b"weights")
    assert body(client, version.path) == b"weights"


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        ("", NotRegistered, "Job b has no row in training_jobs"),
        (
            "UPDATE training_jobs SET status = 'running', best_checkpoint_sha256 = NULL",
            NotRegistered,
            r"Job a \(status running\) has recorded no best.pt",
        ),
        (
            "UPDATE training_jobs SET best_checkpoint_size = 8",
            CorruptObject,
            "a/best.pt holds 7 bytes, SHA-256 .*, but job a has recorded 8 bytes",
        ),
        (
            "UPDATE training_jobs SET best_checkpoint_path = replace(best_checkpoint_path, '/a/', '/c/')",
            CheckpointNotFound,
            "c/best.pt does not exist, although job a has recorded it",
        ),
    ],
)
def test_a_job_without_its_recorded_best_pt_is_not_registered(
    models: ModelRepository,
    connection: Connection,
    client: S3Client,
    bucket: str,
    damage: str,
    error: type[Exception],
    message: str,
) -> None:
    trained(connection, client, bucket, "a", b"weights")
    connection.execute(damage or "SELECT")
    connection.commit()
    job_id = "a" if damage else "b"
    with pytest.raises(error, match=message):
        register_copy(connection, Bucket(client, bucket), "digits", job_id=job_id, run_id="run1")
    assert models.list() == []
    assert client.list_objects_v2(Bucket=bucket, Prefix="models/")["KeyCount"] == 0


def test_production_holds_the_promoted_version(
    models: ModelRepository,
    connection: Connection,
    client: S3Client,
    bucket: str,
    versions: list[ModelVersion],
    production: str,
) -> None:
    promoted = promote(
        connection,
        Bucket(client, bucket),
        ChosenVersion(name="digits", version=2, expected=1, reason="better by 0.1"),
        by="eve",
    )
    assert promoted == models.find_production("digits")
    assert (promoted.version, promoted.promoted_by, promoted.reason) == (2, "eve", "better by 0.1")
    assert models.require("digits", 1).stage == Stage.ARCHIVED
    assert body(client, production) == b"weights 2"
    assert metadata(client, production) == metadata(client, versions[1].path)
    assert metadata(client, production)["sha256"] == versions[1].sha256


def test_a_file_too_large_for_one_copy_is_copied_in_parts(
    connection: Connection, client: S3Client, bucket: str, production: str
) -> None:
    version = version_of(connection, client, bucket, LARGE, limits=IN_PARTS)
    promote_over_present(
        connection, Bucket(client, bucket), "digits", 1, by="ada", reason=None, limits=IN_PARTS
    )
    for uri in (version.path, production):
        assert hashlib.sha256(body(client, uri)).hexdigest() == version.sha256
        assert (metadata(client, uri)["sha256"], metadata(client, uri)["model-version"]) == (
            version.sha256,
            "1",
        )
        key = uri.removeprefix(f"s3://{bucket}/")
        assert client.head_object(Bucket=bucket, Key=key)["ETag"].endswith('-2"')
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)


def test_a_rollback_restores_the_earlier_version_in_production(
    models: ModelRepository,
    connection: Connection,
    client: S3Client,
    bucket: str,
    versions: list[ModelVersion],
    production: str,
) -> None:
    promote_over_present(connection, Bucket(client, bucket), "digits", 2, by="ada", reason=None)
    chosen = find_version_to_promote(
        connection, PromotionRequest(name="digits", reason="2 misses the sevens"), datetime.now(UTC)
    )
    assert (chosen.version, chosen.expected) == (1, 2)
    back = promote(connection, Bucket(client, bucket), chosen, by="eve")
    assert (back.version, back.stage, back.reason) == (1, Stage.PRODUCTION, "2 misses the sevens")
    assert models.require("digits", 2).stage == Stage.ARCHIVED
    assert body(client, production) == b"weights 1"
    assert metadata(client, production)["model-version"] == "1"


def test_a_rollback_that_waited_spares_a_version_that_was_promoted_meanwhile(
    connection: Connection, client: S3Client, bucket: str, versions: list[ModelVersion]
) -> None:
    promote_over_present(connection, Bucket(client, bucket), "digits", 2, by="ada", reason=None)
    triggered = datetime.now(UTC)
    promote_over_present(connection, Bucket(client, bucket), "digits", 3, by="gate", reason=None)
    with pytest.raises(PromotionRefused, match="but version 3 of model digits was promoted later, at 20"):
        find_version_to_promote(connection, PromotionRequest(name="digits"), triggered)
    named = PromotionRequest(name="digits", version=1)
    assert find_version_to_promote(connection, named, triggered).version == 1


def test_promoting_again_changes_nothing(
    connection: Connection, client: S3Client, bucket: str, versions: list[ModelVersion]
) -> None:
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = promote(
        connection,
        Bucket(client, bucket),
        ChosenVersion(name="digits", version=2, expected=1, reason="better"),
        by="ada",
    )
    written = client.list_object_versions(Bucket=bucket)["Versions"]
    again = promote(
        connection,
        Bucket(client, bucket),
        ChosenVersion(name="digits", version=2, expected=1, reason="once more"),
        by="eve",
    )
    assert again == first
    assert client.list_object_versions(Bucket=bucket)["Versions"] == written


def test_a_version_that_was_measured_against_another_champion_is_not_promoted(
    models: ModelRepository,
    connection: Connection,
    client: S3Client,
    bucket: str,
    versions: list[ModelVersion],
    production: str,
) -> None:
    promote_over_present(connection, Bucket(client, bucket), "digits", 2, by="ada", reason=None)
    for expected, named in ((1, "version 1"), (None, "no version")):
        with pytest.raises(PromotionRefused, match=f"was meant to replace {named}, but version 2 is in prod"):
            promote(
                connection,
                Bucket(client, bucket),
                ChosenVersion(name="digits", version=3, expected=expected, reason=None),
                by="eve",
            )
    assert models.require("digits", 3) == versions[2]
    assert body(client, production) == b"weights 2"


def test_promoting_a_version_that_its_gate_rejected_needs_force(
    models: ModelRepository,
    connection: Connection,
    client: S3Client,
    bucket: str,
    versions: list[ModelVersion],
) -> None:
    models.reject("digits", 2, "class 7 falls by 0.2")
    with pytest.raises(PromotionRefused, match=r"rejected by its gate \(class 7 falls by 0.2\).*force: true"):
        promote_over_present(connection, Bucket(client, bucket), "digits", 2, by="ada", reason=None)
    forced = promote_over_present(
        connection, Bucket(client, bucket), "digits", 2, by="ada", reason="7 is not sold", force=True
    )
    assert models.find_production("digits") == forced


def test_a_rollback_without_an_older_version_is_refused(
    connection: Connection, client: S3Client, bucket: str, versions: list[ModelVersion]
) -> None:
    now = datetime.now(UTC)
    with pytest.raises(VersionUnknown, match="version 1 of model digits is in production, and no older"):
        find_version_to_promote(connection, PromotionRequest(name="digits"), now)
    with pytest.raises(VersionUnknown, match="name='digist' is not a registered model: give one of digits"):
        find_version_to_promote(connection, PromotionRequest(name="digist"), now)
    with pytest.raises(
        VersionUnknown, match="version=4 of model digits does not exist: its versions are 1 to 3"
    ):
        find_version_to_promote(connection, PromotionRequest(name="digits", version=4), now)


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({}, "name={} is refused: field required"),
        ({"name": "digits", "versoin": 2}, "versoin is not a parameter of promote_model; its parameters are"),
        (
            {"name": "../digits"},
            "name='../digits' is refused. name: Name of the model, as in its retraining plan",
        ),
        ({"name": "digits", "version": "2"}, "version='2' is refused"),
        ({"name": "digits", "version": 0}, "version=0 is refused"),
        ({"name": "digits", "force": "yes"}, "force='yes' is refused"),
    ],
)
def test_an_invalid_conf_is_refused_with_an_error_that_names_the_parameter(
    conf: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestRefused, match=message):
        PromotionRequest.parse(conf)


def test_an_empty_field_of_the_form_counts_as_not_given() -> None:
    request = PromotionRequest.parse({"name": "digits", "version": None, "reason": " ", "force": False})
    assert (request.version, request.reason) == (None, None)
