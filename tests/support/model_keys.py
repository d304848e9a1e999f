"""Keys that sign models in tests."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from include.models.signature import SigningKey, VerificationKeys
from include.models.signing import ModelSigning
from include.stack.local import Stack


def new_key(curve: ec.EllipticCurve | None = None) -> SigningKey:
    """Generate a new key."""
    return SigningKey(ec.generate_private_key(curve or ec.SECP256R1()))


def private_pem(key: SigningKey) -> str:
    """Return the private key in PEM, as a deployment gives it to the promoting worker."""
    return key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_pem(*keys: SigningKey) -> str:
    """Return the public keys in PEM, as a deployment gives them to all services."""
    return "".join(
        key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        for key in keys
    )


def trusting(*keys: SigningKey, signs_with: SigningKey | None = None) -> ModelSigning:
    """Return the signing configuration of a worker that trusts `keys` and signs with `signs_with`."""
    return ModelSigning.of(VerificationKeys.parse(public_pem(*keys).encode()), signs_with)


def signing_of(stack: Stack) -> ModelSigning:
    """Return the signing configuration of this stack's promoting task."""
    keys = stack.model_keys
    return ModelSigning.of(
        VerificationKeys.parse(keys.public.read_bytes()), SigningKey.parse(keys.private.read_bytes())
    )
