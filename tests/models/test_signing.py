"""A promoted version is signed, so no other file can replace it, even if the row is changed too."""

from __future__ import annotations

import hashlib
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from include.models.errors import NotSigned, PromotionRefused, SignatureRefused
from include.models.promotion import find_version_to_promote
from include.models.repository import ModelRepository
from include.models.request import PromotionRequest
from include.models.signing import ModelSigning
from include.models.version import ModelVersion
from include.s3.bucket import Bucket
from include.s3.errors import CorruptObject
from tests.support.model_keys import new_key, trusting
from tests.support.model_versions import promote_over_present, tamper
from tests.support.stored_objects import body, delete, metadata, replace

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Connection = psycopg.Connection[Any]

OLD, NEW = new_key(), new_key()
SIGNING = trusting(OLD, signs_with=OLD)


@pytest.fixture
def promoting(connection: Connection, s3_client: S3Client, bucket: str, versions: list[ModelVersion]) -> Any:
    """Return a function that promotes a version in place of the current one."""

    def run(version: int, signing: ModelSigning = SIGNING, *, force: bool = False) -> ModelVersion:
        return promote_over_present(
            connection, Bucket(s3_client, bucket), "digits", version,
            by="ada", reason=None, force=force, signing=signing,
        )  # fmt: skip

    return run


def test_a_promoted_version_is_signed_beside_its_file_and_in_production(
    promoting: Any, s3_client: S3Client, models: ModelRepository, production: str
) -> None:
    promoted = promoting(1)
    signature = body(s3_client, promoted.signature_path)
    OLD.public.verify(signature, promoted)
    assert promoted.signature_path == f"{promoted.path}.sig"
    assert body(s3_client, f"{production}.sig") == signature
    assert promoted.signature_sha256 == hashlib.sha256(signature).hexdigest()
    assert metadata(s3_client, f"{production}.sig") == metadata(s3_client, production) | {
        "sha256": promoted.signature_sha256
    }
    assert models.find_production("digits") == promoted
    second = promoting(2)
    assert body(s3_client, f"{production}.sig") == body(s3_client, second.signature_path) != signature
    assert models.require("digits", 3).signature_sha256 is None


def test_promoting_again_does_not_create_a_second_signature(promoting: Any, s3_client: S3Client) -> None:
    first = promoting(1)
    signature = body(s3_client, first.signature_path)
    promoting(2)
    assert promoting(1).signature_sha256 == first.signature_sha256
    assert body(s3_client, first.signature_path) == signature


def test_a_rollback_to_a_version_with_one_byte_changed_is_refused(
    promoting: Any,
    connection: Connection,
    s3_client: S3Client,
    bucket: str,
    versions: list[ModelVersion],
    production: str,
) -> None:
    promoting(1)
    promoting(2)
    tamper(connection, s3_client, versions[0], b"weights 9")
    chosen = find_version_to_promote(connection, PromotionRequest(name="digits"), datetime.now(UTC))
    connection.commit()
    assert chosen.version == 1
    for force in (False, True):
        with pytest.raises(
            SignatureRefused, match=r"vouches for digits@1 .* The file, its row or its signature was changed"
        ) as no:
            promoting(1, force=force)
        assert not isinstance(no.value, NotSigned)
    assert body(s3_client, production) == b"weights 2"


def test_a_candidate_with_one_changed_byte_is_not_signed(
    promoting: Any, s3_client: S3Client, versions: list[ModelVersion]
) -> None:
    replace(s3_client, versions[0].path, b"weights 9", metadata(s3_client, versions[0].path))
    with pytest.raises(CorruptObject, match=r"1/best.pt is damaged: it has 9 bytes with SHA-256"):
        promoting(1)
    with pytest.raises(s3_client.exceptions.NoSuchKey):
        body(s3_client, versions[0].signature_path)


def test_a_version_whose_signature_was_removed_needs_force(
    promoting: Any, s3_client: S3Client, versions: list[ModelVersion], production: str
) -> None:
    promoting(1)
    promoting(2)
    delete(s3_client, versions[0].signature_path)
    with pytest.raises(
        NotSigned, match=rf"best.pt.sig does not exist. If {versions[0].sha256} .* force: true"
    ):
        promoting(1)
    assert body(s3_client, production) == b"weights 2"
    OLD.public.verify(body(s3_client, promoting(1, force=True).signature_path), versions[0])


def test_the_version_in_production_is_signed_as_soon_as_there_is_a_key(
    promoting: Any, s3_client: S3Client, caplog: pytest.LogCaptureFixture, production: str
) -> None:
    with caplog.at_level(logging.WARNING):
        unsigned = promoting(1, ModelSigning())
    assert "version 1 of model digits is not signed: this worker has no connection" in caplog.text
    assert unsigned.signature_sha256 is None
    with pytest.raises(NotSigned, match="force: true"):
        promoting(1)
    signed = promoting(1, force=True)
    assert signed.signature_sha256 is not None
    OLD.public.verify(body(s3_client, f"{production}.sig"), signed)


def test_without_the_private_key_only_signed_versions_are_promoted(
    promoting: Any, s3_client: S3Client, versions: list[ModelVersion], production: str
) -> None:
    promoting(1)
    promoting(2)
    keyless = trusting(OLD)
    with pytest.raises(
        NotSigned, match="version 3 of model digits cannot be promoted: MODEL_VERIFICATION_KEYS"
    ):
        promoting(3, keyless)
    assert body(s3_client, production) == b"weights 2"
    assert promoting(1, keyless).version == 1


def test_keys_are_rotated_while_old_versions_stay_usable(
    promoting: Any, s3_client: S3Client, production: str
) -> None:
    promoting(1)
    both = trusting(OLD, NEW, signs_with=NEW)
    second = promoting(2, both)
    NEW.public.verify(body(s3_client, second.signature_path), second)
    assert promoting(1, both).version == 1
    only_new = trusting(NEW, signs_with=NEW)
    assert promoting(2, only_new).version == 2
    with pytest.raises(NotSigned, match="which is not among the trusted keys"):
        promoting(1, only_new)
    again = promoting(1, only_new, force=True)
    NEW.public.verify(body(s3_client, f"{production}.sig"), again)


def test_an_untrusted_key_signs_nothing() -> None:
    with pytest.raises(ValueError, match="MODEL_VERIFICATION_KEYS lacks the public key of connection"):
        trusting(OLD, signs_with=NEW)


def test_a_version_that_was_refused_is_not_signed(
    promoting: Any, models: ModelRepository, s3_client: S3Client, versions: list[ModelVersion]
) -> None:
    models.reject("digits", 2, "worse")
    with pytest.raises(PromotionRefused, match="was rejected by its gate"):
        promoting(2)
    with pytest.raises(s3_client.exceptions.NoSuchKey):
        body(s3_client, versions[1].signature_path)
