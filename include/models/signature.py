"""Signing a version's file and verifying the signature, in the format of OpenSSF Model Signing (key method).

A signature is a Sigstore bundle: a DSSE envelope around an in-toto statement with the file's SHA-256, signed
with an elliptic-curve key. The command `model_signing verify key` of the package model-signing accepts it.
That package is not used here, because it depends on a client of Sigstore's servers and signs only files on
disk. A version's file is in S3, and has been hashed before it is signed.

https://github.com/sigstore/model-transparency, https://github.com/secure-systems-lab/dsse
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from include.models.bundle import Bundle, InvalidBundle
from include.models.errors import NotSigned, SignatureRefused

if TYPE_CHECKING:
    from include.models.version import ModelVersion

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"

_HASHES: Mapping[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
"""The curves that Model Signing allows, each with its hash."""

_PEM_END = b"-----END PUBLIC KEY-----"


@dataclass(frozen=True)
class VerificationKeys:
    """Public keys, by key id; anyone who holds one of their private keys is trusted."""

    keys: Mapping[str, ec.EllipticCurvePublicKey] = field(default_factory=dict)
    """The keys by id, which is the SHA-256 of the key's PEM in hex."""

    @classmethod
    def of(cls, keys: Iterable[ec.EllipticCurvePublicKey]) -> Self:
        """Return the keys, by their ids."""
        return cls({compute_key_id(key): key for key in keys})

    @classmethod
    def parse(cls, pem: bytes) -> Self:
        """Parse one or several public keys in PEM.

        Raises ValueError; its message completes a sentence that begins with the source of the keys.
        """
        blocks = [block + _PEM_END for block in pem.split(_PEM_END)[:-1]]
        if not blocks:
            raise ValueError("contains no public key in PEM")
        return cls.of(_require_supported(_load_public(block.strip())) for block in blocks)

    def __bool__(self) -> bool:
        return bool(self.keys)

    def verify(self, signature: bytes | None, version: ModelVersion) -> None:
        """Raise SignatureRefused unless a trusted key has signed this version and its recorded SHA-256.

        The error is NotSigned if the signature is missing or was made with an unknown key: the version may
        still be genuine.
        """
        if signature is None:
            raise NotSigned(f"{version} was promoted, but {version.signature_path} does not exist")
        try:
            bundle = Bundle.parse(signature)
        except InvalidBundle as problem:
            raise SignatureRefused(f"The signature of {version} {problem}") from None
        key = self.keys.get(bundle.key_id)
        if key is None:
            known = ", ".join(each[:12] for each in self.keys)
            raise NotSigned(
                f"The signature of {version} was made with key {bundle.key_id[:12]}, which is not among the "
                f"trusted keys in MODEL_VERIFICATION_KEYS ({known})"
            )
        try:
            key.verify(bundle.signature, bundle.signed_bytes, _choose_algorithm(key))
        except InvalidSignature:
            raise SignatureRefused(
                f"The signature of {version} is not genuine: key {bundle.key_id[:12]} did not make it"
            ) from None
        _require_about(bundle, version)


@dataclass(frozen=True)
class SigningKey:
    """The private key with which promotion signs."""

    private: ec.EllipticCurvePrivateKey = field(repr=False)
    """On one of the curves that Model Signing allows."""

    @classmethod
    def parse(cls, pem: bytes) -> Self:
        """Parse a private key in PEM, without a passphrase.

        Raises ValueError. Its message never quotes the key, and completes a sentence that begins with the
        source of the key.
        """
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ValueError("contains no private key in PEM without a passphrase") from None
        _require_supported(key.public_key())
        assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - its public key is one
        return cls(key)

    @property
    def public(self) -> VerificationKeys:
        """The public key that belongs to this private key."""
        return VerificationKeys.of([self.private.public_key()])

    def sign(self, version: ModelVersion) -> bytes:
        """Return a signature of the version's name, number and SHA-256."""
        payload = json.dumps(_build_statement(version)).encode()
        unsigned = Bundle(compute_key_id(self.private.public_key()), payload, b"")
        signature = self.private.sign(unsigned.signed_bytes, _choose_algorithm(self.private.public_key()))
        return Bundle(unsigned.key_id, payload, signature).to_json()


def compute_key_id(key: ec.EllipticCurvePublicKey) -> str:
    """Return the id by which signatures name the key: the SHA-256 of its PEM, in hex."""
    return hashlib.sha256(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _load_public(pem: bytes) -> object:
    try:
        return load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("contains a public key that is damaged or of an unknown kind") from None


def _require_supported(key: object) -> ec.EllipticCurvePublicKey:
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _HASHES:
        return key
    raise ValueError("contains a key that is not on the elliptic curve P-256, P-384 or P-521")


def _choose_algorithm(key: ec.EllipticCurvePublicKey) -> ec.ECDSA:
    return ec.ECDSA(_HASHES[key.curve.name])


def _name_subject(version: ModelVersion) -> str:
    return f"{version.name}@{version.version}"


def _build_statement(version: ModelVersion) -> dict[str, Any]:
    """Return the statement that is signed. In it, the model has a single file, named "."."""
    root = hashlib.sha256(bytes.fromhex(version.sha256)).hexdigest()
    return {
        "_type": STATEMENT,
        "subject": [{"name": _name_subject(version), "digest": {"sha256": root}}],
        "predicateType": PREDICATE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [],
            },
            "resources": [{"name": ".", "algorithm": "sha256", "digest": version.sha256}],
        },
    }


def _require_about(bundle: Bundle, version: ModelVersion) -> None:
    """Raise SignatureRefused unless the signed statement is about this version."""
    signed = bundle.parse_statement()
    expected = _build_statement(version)
    if signed == expected:
        return
    subject, digest = _describe(signed)
    raise SignatureRefused(
        f"The signature of {version} vouches for {subject} with SHA-256 {digest}, not for "
        f"{_name_subject(version)} with SHA-256 {version.sha256}"
    )


def _describe(signed: Any) -> tuple[str, str]:
    """Return the name and SHA-256 in a signed statement; "something else" if it has an unexpected form."""
    try:
        return str(signed["subject"][0]["name"]), str(signed["predicate"]["resources"][0]["digest"])
    except (LookupError, TypeError):
        return "something else", "unknown"
