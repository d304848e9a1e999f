"""Two processes that are interrupted before or after a rollback end with the same weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.tiny_trainings import Epochs, GivesUp, weights_of
from tests.training.test_loss_guard import in_two, make_request_for_two, on_another_machine, watch_of


@pytest.mark.parametrize("after", [2, 3], ids=["before", "after"])
def test_an_interrupted_rollback_in_two_processes_ends_with_the_same_weights(
    after: int, tmp_path: Path
) -> None:
    wanted = make_request_for_two(tmp_path, epochs=4)
    in_two(wanted, Epochs())
    assert watch_of(wanted)["roll_backs"] == 1
    weights = weights_of(wanted.save_dir / "weights" / "last.pt")
    shutil.rmtree(wanted.save_dir)

    with pytest.raises(GivesUp.Enough):
        in_two(wanted, GivesUp(after))
    in_two(on_another_machine(wanted, tmp_path), Epochs())
    assert weights_of(wanted.save_dir / "weights" / "last.pt") == weights
