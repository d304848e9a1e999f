"""A checkpoint that has its name has its bytes too, also after a power cut."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from include.training.saving import save


def test_the_bytes_are_on_the_disk_before_the_name_and_the_name_before_anything_depends_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both calls are carried out and noted: what a disk loses without them only a power cut shows."""
    steps: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def noting_fsync(descriptor: int) -> None:
        steps.append(("fsync", Path(f"/proc/self/fd/{descriptor}").readlink().name))
        fsync(descriptor)

    def noting_replace(source: Any, target: Any) -> None:
        steps.append(("replace", Path(target).name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "replace", noting_replace)
    save({"epoch": 3}, tmp_path / "last.pt")

    staged = f"last.pt.{os.getpid()}.part"
    assert steps == [("fsync", staged), ("replace", "last.pt"), ("fsync", tmp_path.name)]
