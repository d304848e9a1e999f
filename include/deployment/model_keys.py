"""The keys with which this process verifies models and, if it promotes models, signs them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from include.deployment.lookup import look_up
from include.deployment.settings import MODEL_SIGNING_KEY, SettingRefused
from include.models.signature import SigningKey, VerificationKeys
from include.models.signing import ModelSigning

if TYPE_CHECKING:
    from include.deployment.settings import Settings


def load_verification(settings: Settings) -> ModelSigning:
    """Return an object that verifies models with MODEL_VERIFICATION_KEYS. Raises SettingRefused."""
    return ModelSigning(_load_trusted_keys(settings))


def load_signing(settings: Settings) -> ModelSigning:
    """Return an object that also signs models, if this process has connection `model_signing_key`.

    The connection's password is the private key in PEM; alternatively, `path` in its extra is the path of the
    key's file. Raises SettingRefused, and LookupFailed if Airflow cannot look up the connection.
    """
    try:
        return ModelSigning.of(_load_trusted_keys(settings), _load_signing_key())
    except ValueError as problem:
        raise SettingRefused(str(problem)) from None


def _load_trusted_keys(settings: Settings) -> VerificationKeys:
    given = settings.model_verification_keys
    if given is None:
        return VerificationKeys()
    try:
        if "-----BEGIN" in given:
            return VerificationKeys.parse(given.encode())
        return VerificationKeys.parse(b"\n".join(_read(Path(path)) for path in given.split(os.pathsep)))
    except ValueError as problem:
        raise SettingRefused(
            f"MODEL_VERIFICATION_KEYS={given!r:.80} {problem}; give public keys in PEM, or the paths of "
            f"files that contain them, separated by {os.pathsep}"
        ) from None


def _load_signing_key() -> SigningKey | None:
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        connection = look_up(MODEL_SIGNING_KEY)
    except AirflowNotFoundException:
        return None
    path = connection.extra_dejson.get("path")
    try:
        return SigningKey.parse(_read(Path(path)) if path else (connection.password or "").encode())
    except ValueError as problem:
        raise SettingRefused(
            f"Connection {MODEL_SIGNING_KEY} {problem}; give an elliptic-curve private key in PEM as its "
            'password or, in its extra, the path of a file that contains one: {"path": "…"}'
        ) from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"names {path}, which cannot be read ({error.strerror})") from None
