"""The envelope of a signature: a Sigstore bundle, as JSON, with one signature of one in-toto statement."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import AliasPath, BaseModel, BeforeValidator, Field, ValidationError

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"


class InvalidBundle(ValueError):
    """The bytes are not a bundle; the message completes a sentence that begins with the signature's name."""


@dataclass(frozen=True)
class Bundle:
    """A signature and the statement that it signs."""

    key_id: str
    """Id of the public key that verifies the signature."""
    payload: bytes
    """The statement, as JSON."""
    signature: bytes
    """The key's signature of `signed_bytes`."""

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Parse the JSON of a bundle. Nothing is verified yet. Raises InvalidBundle."""
        try:
            found = _StoredBundle.model_validate_json(content)
        except ValidationError:
            raise InvalidBundle("is not a key-based signature in the format of Model Signing") from None
        return cls(found.key_id, found.payload, found.signatures[0].sig)

    @property
    def signed_bytes(self) -> bytes:
        """The bytes that the key signs: DSSE's pre-authentication encoding of the payload and its type."""
        return f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(self.payload)} ".encode() + self.payload

    def parse_statement(self) -> Any:
        """Return the signed statement; None if it is not JSON."""
        try:
            return json.loads(self.payload)
        except ValueError:
            return None

    def to_json(self) -> bytes:
        """Return the bundle as it is stored."""
        bundle = {
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": self.key_id}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": b64encode(self.payload).decode(),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": b64encode(self.signature).decode(), "keyid": ""}],
            },
        }
        return json.dumps(bundle).encode()


def _decode(value: Any) -> bytes:
    if not isinstance(value, str):
        raise ValueError("not base64")  # noqa: TRY004 - pydantic expects a ValueError
    return b64decode(value, validate=True)


_Base64 = Annotated[bytes, BeforeValidator(_decode)]


class _StoredSignature(BaseModel):
    sig: _Base64
    """The signature of the payload and its type."""


class _StoredBundle(BaseModel):
    """The members of a stored bundle that matter here."""

    media_type: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"] = Field(validation_alias="mediaType")
    """The version of the bundle's format."""
    key_id: str = Field(validation_alias=AliasPath("verificationMaterial", "publicKey", "hint"))
    """Id of the public key, as a hint."""
    payload_type: Literal["application/vnd.in-toto+json"] = Field(
        validation_alias=AliasPath("dsseEnvelope", "payloadType")
    )
    """Says that the payload is an in-toto statement."""
    payload: _Base64 = Field(validation_alias=AliasPath("dsseEnvelope", "payload"))
    """The statement, as JSON."""
    signatures: list[_StoredSignature] = Field(
        validation_alias=AliasPath("dsseEnvelope", "signatures"), min_length=1, max_length=1
    )
    """Exactly one."""
