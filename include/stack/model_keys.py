"""Creates the keys that sign and verify promoted models, unless they exist.

    python -m include.stack.model_keys PRIVATE PUBLIC     docker-compose.yaml runs this before Airflow

PUBLIC lists the public keys of all signatures, the newest first. If you remove PRIVATE, or replace it with
another key, the next start adds the new public key to PUBLIC. Model versions signed earlier remain valid.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from include.models.signature import SigningKey
from include.stack.errors import StackError
from include.stack.private_files import write_private


@dataclass(frozen=True)
class ModelKeys:
    """The files with the keys that sign and verify promoted models."""

    private: Path
    """The private key, which signs."""
    public: Path
    """All public keys that are trusted, the newest first."""

    def prepare(self) -> None:
        """Create the files that are missing. Raises StackError if the private key cannot be used."""
        if not self.private.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            write_private(self.private, pem)
        try:
            signing = SigningKey.parse(self.private.read_bytes())
        except ValueError as problem:
            raise StackError(
                f"{self.private} {problem}. Restore the file. If you remove it instead, the next start "
                "creates a new key."
            ) from None
        public = signing.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        trusted = self.public.read_bytes() if self.public.exists() else b""
        if public not in trusted:
            write_private(self.public, public + trusted)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m include.stack.model_keys", description=__doc__)
    parser.add_argument("private", type=Path, help="the file for the private key, in PEM")
    parser.add_argument("public", type=Path, help="the file for all trusted public keys, in PEM")
    given = parser.parse_args()
    ModelKeys(given.private, given.public).prepare()
