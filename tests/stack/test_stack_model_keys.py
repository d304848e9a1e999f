"""The stack creates a key for signing models only once, and trusts every key that it ever had."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.models.signature import SigningKey, VerificationKeys
from include.stack.errors import StackError
from include.stack.model_keys import ModelKeys


@pytest.fixture
def keys(tmp_path: Path) -> ModelKeys:
    keys = ModelKeys(tmp_path / "private.pem", tmp_path / "public.pem")
    keys.prepare()
    return keys


def _id(keys: ModelKeys) -> str:
    (found,) = SigningKey.parse(keys.private.read_bytes()).public.keys
    return found


def test_the_key_is_created_once_and_is_private(keys: ModelKeys) -> None:
    before = keys.private.read_bytes(), keys.public.read_bytes()
    keys.prepare()
    assert (keys.private.read_bytes(), keys.public.read_bytes()) == before
    assert keys.private.stat().st_mode & 0o077 == 0
    assert list(VerificationKeys.parse(keys.public.read_bytes()).keys) == [_id(keys)]


def test_a_key_that_replaces_another_is_trusted_in_addition_to_it(keys: ModelKeys) -> None:
    earlier = _id(keys)
    keys.private.unlink()
    keys.prepare()
    assert list(VerificationKeys.parse(keys.public.read_bytes()).keys) == [_id(keys), earlier]
    assert _id(keys) != earlier


def test_a_damaged_private_key_is_not_replaced(keys: ModelKeys) -> None:
    keys.private.write_text("damaged")
    with pytest.raises(StackError, match=r"private.pem contains no private key .* If you remove it instead"):
        keys.prepare()
    assert keys.private.read_text() == "damaged"
