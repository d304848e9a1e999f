"""Production always holds one whole version, despite damaged files and concurrent or killed promotions."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from include.checkpoints.errors import CheckpointNotFound
from include.models.errors import ModelError, NotRegistered, PromotionConflict
from include.models.promotion import promote, register_copy
from include.models.repository import ModelRepository
from include.models.request import ChosenVersion
from include.models.version import ModelVersion, Stage
from include.s3.bucket import Bucket
from include.s3.errors import CorruptObject, StoreError
from tests.support.model_versions import promote_over_present, version_of
from tests.support.stored_objects import body, metadata, replace

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from mypy_boto3_s3 import S3Client

    from include.stack.s3 import S3

Connection = psycopg.Connection[Any]


@pytest.fixture
def versions(
    versions: list[ModelVersion], connection: Connection, s3_client: S3Client, bucket: str
) -> list[ModelVersion]:
    """Four versions of model digits; the first is in production."""
    promote_over_present(connection, Bucket(s3_client, bucket), "digits", 1, by="ada", reason=None)
    return [*versions, version_of(connection, s3_client, bucket, b"weights 4")]


def stages(connection: Connection) -> list[str]:
    """Return the stages of all versions, in order."""
    return [version.stage.value for version in reversed(ModelRepository(connection).list("digits"))]


def terminate(url: str, victim: Connection) -> None:
    """End a connection at the server, and wait until its locks are released."""
    backend = victim.info.backend_pid
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 60000)", [backend])


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (
            "missing",
            CheckpointNotFound,
            "versions/2/best.pt does not exist, so version 2 .* was not promoted",
        ),
        (
            "flipped",
            CorruptObject,
            r"versions/2/best.pt is damaged: it has 9 bytes with SHA-256 \w+, but 9",
        ),
        ("truncated", CorruptObject, "versions/2/best.pt is damaged: it has 4 bytes .* another version"),
    ],
)
def test_a_version_whose_file_is_damaged_is_not_promoted(
    connection: Connection,
    client: S3Client,
    bucket: str,
    versions: list[ModelVersion],
    production: str,
    damage: str,
    error: type[Exception],
    message: str,
) -> None:
    path = versions[1].path
    if damage == "missing":
        client.delete_object(Bucket=bucket, Key=path.removeprefix(f"s3://{bucket}/"))
    else:
        replace(client, path, {"flipped": b"weighus 2", "truncated": b"weig"}[damage], metadata(client, path))
    with pytest.raises(error, match=message):
        promote_over_present(connection, Bucket(client, bucket), "digits", 2, by="ada", reason=None)
    assert body(client, production) == b"weights 1"
    assert stages(connection) == ["production", "candidate", "candidate", "candidate"]


def test_promoting_again_repairs_a_damaged_file_in_production(
    connection: Connection, client: S3Client, bucket: str, versions: list[ModelVersion], production: str
) -> None:
    replace(client, production, b"weighus 1", metadata(client, production))
    promote_over_present(connection, Bucket(client, bucket), "digits", 1, by="ada", reason=None)
    assert body(client, production) == b"weights 1"


def test_a_file_that_was_restored_without_its_metadata_gets_its_checksum_in_production(
    connection: Connection, client: S3Client, bucket: str, versions: list[ModelVersion], production: str
) -> None:
    replace(client, versions[1].path, b"weights 2", {})
    promote_over_present(connection, Bucket(client, bucket), "digits", 2, by="ada", reason=None)
    assert metadata(client, production) == {
        "sha256": versions[1].sha256,
        "model": "digits",
        "model-version": "2",
    }


def test_one_of_several_simultaneous_promotions_wins_and_the_others_report_it(
    connection: Connection,
    migrated_url: str,
    bucket: str,
    client: S3Client,
    versions: list[ModelVersion],
    production: str,
) -> None:
    start = threading.Barrier(3)
    won: list[int] = []
    refused: list[str] = []

    def compete(version: int) -> None:
        with psycopg.connect(migrated_url) as own:
            start.wait()
            try:
                promote(
                    own,
                    Bucket(client, bucket),
                    ChosenVersion(name="digits", version=version, expected=1, reason=None),
                    by="ada",
                )
                won.append(version)
            except ModelError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=compete, args=[version]) for version in (2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = won
    assert len(refused) == 2
    for message in refused:
        assert "is under way" in message or f"but version {winner} is in production now" in message
    assert body(client, production) == f"weights {winner}".encode()
    assert metadata(client, production)["model-version"] == str(winner)
    assert stages(connection)[winner - 1] == "production"
    assert sorted(stages(connection)) == ["archived", "candidate", "candidate", "production"]


def test_a_second_promotion_is_refused_while_the_first_one_copies_its_file(
    connection: Connection,
    client: S3Client,
    migrated_url: str,
    bucket: str,
    s3: S3,
    versions: list[ModelVersion],
    production: str,
) -> None:
    messages: list[str] = []

    def promote_another(**_: object) -> None:
        with psycopg.connect(migrated_url) as other, pytest.raises(PromotionConflict) as conflict:
            promote_over_present(other, Bucket(s3.client(), bucket), "digits", 3, by="eve", reason=None)
        messages.append(str(conflict.value))

    client.meta.events.register("before-send.s3.CopyObject", promote_another)
    promote_over_present(connection, Bucket(client, bucket), "digits", 2, by="ada", reason=None)
    (sentence,) = messages
    assert "Another promotion of model digits is under way, so version 3 was not promoted" in sentence
    assert stages(connection) == ["archived", "production", "candidate", "candidate"]
    assert body(client, production) == b"weights 2"


@pytest.mark.parametrize("then", [2, 1, 3])
def test_the_next_promotion_completes_one_that_was_cut_off_after_the_copy(
    connection: Connection,
    client: S3Client,
    migrated_url: str,
    bucket: str,
    s3_client: S3Client,
    versions: list[ModelVersion],
    production: str,
    then: int,
) -> None:
    with psycopg.connect(migrated_url) as doomed:

        def cut(request: AWSPreparedRequest, **_: object) -> None:
            if "production" in request.url and not doomed.closed:
                terminate(migrated_url, doomed)

        client.meta.events.register("before-send.s3.GetObject", cut)
        with pytest.raises(psycopg.OperationalError):
            promote_over_present(doomed, Bucket(client, bucket), "digits", 2, by="ada", reason=None)
    assert body(s3_client, production) == b"weights 2"
    assert stages(connection) == ["production", "candidate", "candidate", "candidate"]
    promoted = promote(
        connection,
        Bucket(s3_client, bucket),
        ChosenVersion(name="digits", version=then, expected=1, reason=None),
        by="ada",
    )
    assert promoted.stage == Stage.PRODUCTION
    assert body(s3_client, production) == f"weights {then}".encode()
    assert metadata(s3_client, production)["model-version"] == str(then)
    assert stages(connection).index("production") == then - 1


def test_a_promotion_that_lost_its_lock_without_noticing_overwrites_nothing(
    connection: Connection,
    client: S3Client,
    migrated_url: str,
    bucket: str,
    s3_client: S3Client,
    versions: list[ModelVersion],
    production: str,
) -> None:
    with psycopg.connect(migrated_url) as doomed:

        def overtake(**_: object) -> None:
            terminate(migrated_url, doomed)
            promote_over_present(connection, Bucket(s3_client, bucket), "digits", 3, by="eve", reason=None)

        client.meta.events.register("before-send.s3.CopyObject", overtake)
        with pytest.raises((StoreError, psycopg.OperationalError)):
            promote_over_present(doomed, Bucket(client, bucket), "digits", 2, by="ada", reason=None)
    assert body(s3_client, production) == b"weights 3"
    assert stages(connection) == ["archived", "candidate", "production", "candidate"]


@pytest.mark.parametrize(
    "change", ["DELETE FROM training_jobs", "UPDATE training_jobs SET best_checkpoint_sha256 = NULL"]
)
def test_a_job_that_is_deleted_while_its_file_is_copied_is_not_registered(
    connection: Connection, client: S3Client, s3_client: S3Client, migrated_url: str, bucket: str, change: str
) -> None:
    version_of(connection, s3_client, bucket, b"weights 1")
    (job_id,) = [version.job_id for version in ModelRepository(connection).list("digits")]

    def delete(**_: object) -> None:
        with psycopg.connect(migrated_url, autocommit=True) as other:
            other.execute(change)

    client.meta.events.register("before-send.s3.CopyObject", delete)
    with pytest.raises(NotRegistered, match=f"Job {job_id} was deleted or started again while its best.pt"):
        register_copy(connection, Bucket(client, bucket), "other", job_id=job_id, run_id="retraining")
    assert ModelRepository(connection).list("other") == []


def test_a_copy_whose_response_was_lost_is_recognised_as_our_own(
    connection: Connection,
    client: S3Client,
    bucket: str,
    s3_client: S3Client,
    versions: list[ModelVersion],
    production: str,
) -> None:
    sent: list[str] = []

    def send_it_before(request: AWSPreparedRequest, **_: object) -> None:
        # S3 receives the same signed request twice, as if the first response had been lost.
        import requests

        sent.append(str(request.url))
        requests.put(request.url, headers=dict(request.headers), timeout=60).raise_for_status()

    client.meta.events.register("before-send.s3.CopyObject", send_it_before)
    promote_over_present(connection, Bucket(client, bucket), "digits", 2, by="ada", reason=None)
    assert len(sent) == 1
    assert body(s3_client, production) == b"weights 2"
    assert stages(connection) == ["archived", "production", "candidate", "candidate"]
