"""Signing versions when they are promoted, and verifying them whenever they are used."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from include.limits import SIGNATURE_BYTES
from include.models.errors import NotSigned, SignatureRefused
from include.models.signature import VerificationKeys
from include.s3.bucket import Bucket
from include.s3.location import S3Location

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.models.signature import SigningKey
    from include.models.version import ModelVersion

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Signature:
    """The bytes of a signature."""

    content: bytes
    """A Sigstore bundle, as stored."""

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes, in hex."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True)
class ModelSigning:
    """Signs and verifies versions of models. Without keys it does neither."""

    trusted: VerificationKeys = field(default_factory=VerificationKeys)
    """Public keys whose signatures are accepted."""
    key: SigningKey | None = None
    """The key to sign with; only the process that promotes has it."""

    @classmethod
    def of(cls, trusted: VerificationKeys, key: SigningKey | None) -> Self:
        """Return an instance with these keys; if `trusted` is empty, only the public key of `key` is trusted.

        Raises ValueError if the signatures of `key` would not be trusted.
        """
        if key is None:
            return cls(trusted)
        if trusted and not key.public.keys.keys() <= trusted.keys.keys():
            raise ValueError(
                "MODEL_VERIFICATION_KEYS lacks the public key of connection model_signing_key, so every "
                "version that is signed with it would be refused; add that key"
            )
        return cls(trusted or key.public, key)

    def require_genuine(self, client: S3Client, version: ModelVersion) -> None:
        """Raise SignatureRefused if the version was promoted, but no trusted key has signed its content.

        Everything that uses a version calls this method first. A version that was never promoted needs no
        signature. Also raises StoreErrors.
        """
        if self.trusted and version.was_promoted:
            self._verify(_read(client, version), version)

    def obtain(self, client: S3Client, version: ModelVersion, *, force: bool) -> Signature | None:
        """Return the signature to promote the version with; None if there is none and there are no keys.

        A version is signed when it is promoted for the first time; later its signature is verified. With
        `force`, a version that no trusted key has signed is also signed; a wrong signature is always
        refused. Nothing is stored. Raises SignatureRefused and StoreErrors.
        """
        existing = _read(client, version)
        if not self.trusted:
            if existing is None:
                log.warning("%s is not signed: this worker has no connection model_signing_key.", version)
            return existing
        if existing is None and not version.was_promoted:
            return self._sign(version)
        try:
            return self._verify(existing, version)
        except NotSigned:
            if not force:
                raise
        return self._sign(version)

    def _verify(self, signature: Signature | None, version: ModelVersion) -> Signature:
        try:
            self.trusted.verify(signature.content if signature else None, version)
        except NotSigned as refusal:
            raise NotSigned(
                f"{refusal}. If {version.sha256} is the SHA-256 that its file should have, trigger "
                f"promote_model with name: {version.name}, version: {version.version} and force: true to "
                "sign it; or use another version"
            ) from None
        except SignatureRefused as refusal:
            raise SignatureRefused(
                f"{refusal}. The file, its row or its signature was changed: restore them from a "
                "backup, or use another version"
            ) from None
        assert signature is not None  # noqa: S101 - otherwise nothing could have been verified
        return signature

    def _sign(self, version: ModelVersion) -> Signature:
        if self.key is None:
            raise NotSigned(
                f"{version} cannot be promoted: MODEL_VERIFICATION_KEYS requires a signature, but this "
                "worker has no connection model_signing_key; define it for the workers of queue promote, "
                "then clear this task"
            )
        log.info("Signing %s, SHA-256 %s.", version, version.sha256)
        return Signature(self.key.sign(version))


def _read(client: S3Client, version: ModelVersion) -> Signature | None:
    location = S3Location.parse(version.signature_path)
    return Bucket(client, location.bucket).read(location.key, SIGNATURE_BYTES, Signature)
