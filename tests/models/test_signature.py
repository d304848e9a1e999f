"""Signatures have the format of OpenSSF Model Signing, and are valid for one version and one SHA-256."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import model_signing
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
)

from include.models.errors import NotSigned, SignatureRefused
from include.models.signature import SigningKey, VerificationKeys
from include.models.version import ModelVersion, Stage
from tests.support.model_keys import new_key, private_pem, public_pem

CONTENT = b"weights of version 3"


def version(**given: Any) -> ModelVersion:
    """Version 3 of model digits, with the given fields replaced."""
    names = dict.fromkeys(ModelVersion.model_fields)
    values: dict[str, Any] = {
        "name": "digits",
        "version": 3,
        "job_id": "a",
        "stage": Stage.CANDIDATE,
        "path": "s3://bucket/models/digits/versions/3/best.pt",
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "size": len(CONTENT),
        "created_at": datetime(2026, 1, 2, tzinfo=UTC),
    }
    return ModelVersion.model_validate(names | values | given)


@pytest.fixture
def key() -> SigningKey:
    return new_key()


@pytest.mark.parametrize(
    "curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda each: each.name
)
def test_the_official_tool_accepts_a_signature_and_refuses_the_file_with_one_byte_changed(
    curve: ec.EllipticCurve, tmp_path: Path
) -> None:
    key = new_key(curve)
    file, signature, public = (tmp_path / name for name in ("best.pt", "best.pt.sig", "public.pem"))
    file.write_bytes(CONTENT)
    signature.write_bytes(key.sign(version()))
    public.write_text(public_pem(key))
    verifier = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=public)
    verifier.verify(file, signature)
    file.write_bytes(CONTENT.replace(b"3", b"4"))
    with pytest.raises(ValueError, match="Signature mismatch"):
        verifier.verify(file, signature)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"version": 4}, "vouches for digits@3 with SHA-256 .*, not for digits@4"),
        ({"name": "letters"}, "vouches for digits@3 with SHA-256 .*, not for letters@3"),
        ({"sha256": "a" * 64}, "not for digits@3 with SHA-256 aaaa"),
    ],
)
def test_a_signature_is_valid_only_for_its_version_and_sha256(
    key: SigningKey, given: dict[str, Any], message: str
) -> None:
    signature = key.sign(version())
    key.public.verify(signature, version())
    with pytest.raises(SignatureRefused, match=message) as refusal:
        key.public.verify(signature, version(**given))
    assert not isinstance(refusal.value, NotSigned)


def test_a_signature_of_a_folder_is_not_accepted_for_a_version(key: SigningKey, tmp_path: Path) -> None:
    folder, private = tmp_path / "digits@3", tmp_path / "private.pem"
    folder.mkdir()
    (folder / "best.pt").write_bytes(CONTENT)
    private.write_text(private_pem(key))
    signer = model_signing.signing.Config().use_elliptic_key_signer(private_key=private)
    signer.sign(folder, tmp_path / "model.sig")
    with pytest.raises(SignatureRefused, match="vouches for digits@3 with SHA-256"):
        key.public.verify((tmp_path / "model.sig").read_bytes(), version())


def changed(signature: bytes, field: str) -> bytes:
    """Return the signature with one byte changed, in the signed statement or in the signature itself."""
    bundle = json.loads(signature)
    envelope = bundle["dsseEnvelope"]
    holder = envelope if field == "payload" else envelope["signatures"][0]
    content = bytearray(b64decode(holder[field]))
    content[-5] ^= 1
    holder[field] = b64encode(content).decode()
    return json.dumps(bundle).encode()


@pytest.mark.parametrize("field", ["payload", "sig"])
def test_a_signature_with_one_byte_changed_is_not_genuine(key: SigningKey, field: str) -> None:
    with pytest.raises(SignatureRefused, match="version 3 of model digits is not genuine"):
        key.public.verify(changed(key.sign(version()), field), version())


def test_a_statement_that_names_a_trusted_key_must_be_signed_with_it(key: SigningKey) -> None:
    forged = json.loads(new_key().sign(version()))
    forged["verificationMaterial"]["publicKey"]["hint"] = next(iter(key.public.keys))
    with pytest.raises(SignatureRefused, match="is not genuine"):
        key.public.verify(json.dumps(forged).encode(), version())


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff", id="no UTF-8"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b"{}", id="fields missing"),
        pytest.param(b"[" * 10_000, id="nested too deep"),
        pytest.param(b'{"mediaType": "text/plain"}', id="another media type"),
    ],
)
def test_bytes_that_are_not_a_signature_are_refused(key: SigningKey, content: bytes) -> None:
    with pytest.raises(SignatureRefused, match="is not a key-based signature in the format of Model Signing"):
        key.public.verify(content, version())


def test_an_untrusted_key_is_named(key: SigningKey) -> None:
    trusted = VerificationKeys.parse((public_pem(new_key(), new_key())).encode())
    with pytest.raises(
        NotSigned, match=rf"was made with key {next(iter(key.public.keys))[:12]}, which is not"
    ):
        trusted.verify(key.sign(version()), version())


def test_several_public_keys_are_read_with_any_text_between_them(key: SigningKey) -> None:
    old = new_key()
    text = f"# until 2026\n{public_pem(old)}\n\n# since then\n{public_pem(key)}"
    trusted = VerificationKeys.parse(text.encode())
    for each in (old, key):
        trusted.verify(each.sign(version()), version())


ED25519 = ed25519.Ed25519PrivateKey.generate()


@pytest.mark.parametrize(
    ("pem", "message"),
    [
        (b"", "contains no public key in PEM"),
        (private_pem(new_key()).encode(), "contains no public key in PEM"),
        (public_pem(new_key()).replace("M", "N", 1).encode(), "contains a public key that is damaged"),
        (
            ED25519.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "contains a key that is not on the elliptic curve P-256, P-384 or P-521",
        ),
        (public_pem(new_key(ec.SECP256K1())).encode(), "a key that is not on the elliptic curve"),
    ],
    ids=["nothing", "a private key", "a damaged key", "Ed25519", "another curve"],
)
def test_an_unusable_public_key_is_refused(pem: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VerificationKeys.parse(pem)


def test_an_unusable_private_key_is_refused_and_not_quoted() -> None:
    pem = new_key().private.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    for given in (pem, public_pem(new_key()).encode(), b"c2VjcmV0"):
        with pytest.raises(
            ValueError, match="contains no private key in PEM without a passphrase"
        ) as refusal:
            SigningKey.parse(given)
        assert str(given) not in str(refusal.value)
    with pytest.raises(ValueError, match="a key that is not on the elliptic curve"):
        SigningKey.parse(private_pem(new_key(ec.SECP256K1())).encode())
    assert repr(new_key()) == "SigningKey()"
