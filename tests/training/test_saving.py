"""A checkpoint file that exists under its final name is complete, even after a power cut."""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from include.training.contract import SavedState
from include.training.saving import save
from include.training.state_writer import StateWriter
from tests.support.soft_limit import soft_limit


def test_the_bytes_are_synced_before_the_rename_and_the_rename_before_save_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Record the fsync and replace calls; only a real power cut could show the effect of a missing call."""
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


def test_no_state_is_lost_if_the_disk_is_too_full_for_best_pt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A training run in this process may have set this variable.
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    last, best = tmp_path / "last.pt", tmp_path / "best.pt"
    announced: list[SavedState] = []

    def write(epoch: int) -> None:
        state = {"epoch": epoch, "ema": torch.nn.Linear(2, 2), "train_args": {}}
        writer.write(state, lambda: None, SavedState(epoch, 0, True, 1.0), becomes_best=True)
        writer.flush()

    with StateWriter(last, best, announced.append) as writer:
        write(0)
        assert torch.load(best, weights_only=False)["best_epoch"] == 0
        # The state is so small that best.pt, which stores the complete arguments, is the larger file.
        size = (last.stat().st_size + best.stat().st_size) // 2
        with soft_limit(resource.RLIMIT_FSIZE, size):
            write(1)

    assert [(saved.epoch, saved.is_best) for saved in announced] == [(0, True), (1, False)]
    assert [torch.load(path, weights_only=False)["epoch"] for path in (last, best)] == [1, 1]
    assert "best.pt could not be written" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "last.pt"]


def test_a_state_is_serialised_in_the_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    begun, may_go_on = threading.Event(), threading.Event()
    save = torch.save

    def slow(state: object, path: Path) -> None:
        begun.set()
        assert may_go_on.wait(60)
        save(state, path)

    monkeypatch.setattr(torch, "save", slow)
    announced: list[SavedState] = []
    with StateWriter(tmp_path / "last.pt", tmp_path / "best.pt", announced.append) as writer:
        writer.write({"epoch": 0}, lambda: None, saved := SavedState(0, 0, False, 1.0), becomes_best=False)
        assert begun.wait(60)
        assert writer.is_busy
        assert announced == []
        may_go_on.set()
        writer.flush()
    assert announced == [saved]
