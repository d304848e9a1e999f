"""A checkpoint that has its name has its bytes too, also after a power cut."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from include.training.contract import DiskError, SavedState
from include.training.saving import save
from include.training.state_writer import StateWriter


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


def test_without_its_best_pt_a_state_does_not_replace_the_one_before(tmp_path: Path) -> None:
    last, best = tmp_path / "last.pt", tmp_path / "best" / "best.pt"
    best.parent.mkdir()
    announced: list[int] = []

    def write(epoch: int) -> None:
        state = {"epoch": epoch, "ema": torch.nn.Linear(2, 2), "train_args": {}}
        writer.write(state, lambda: None, SavedState(epoch, 0, True, 1.0), becomes_best=True)
        writer.flush()

    def write_two() -> None:
        write(0)
        assert torch.load(best, weights_only=False)["best_epoch"] == 0
        shutil.rmtree(best.parent)
        write(1)

    with (
        pytest.raises(DiskError, match=r"best\.pt could not be written"),
        StateWriter(last, best, lambda saved: announced.append(saved.epoch)) as writer,
    ):
        write_two()
    assert torch.load(last, weights_only=False)["epoch"] == 0
    assert announced == [0]
