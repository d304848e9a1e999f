"""Folders shared by the dataset tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the path of a test's dataset; the folder does not exist yet."""
    return tmp_path / "data"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Return the path of the dataset cache of a test; the folder does not exist yet."""
    return tmp_path / "cache"
