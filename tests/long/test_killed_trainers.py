"""Kills of the trainer's process alone; together with those of Dag runs, they are a hundred kills."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.training.loading import load_checkpoint
from tests.support.killing import Attempt
from tests.support.long.report import Report
from tests.support.scheduled_trainings import Kill
from tests.support.tiny_trainings import digests
from tests.training.test_killed_trainer import AROUND_BEST, PLACES, Killed, killed

pytestmark = pytest.mark.timeout(3600)

EPOCHS = 36


class KillsWithCosts(Killed):
    """Records the cost of each kill."""

    def __init__(self, folder: Path) -> None:
        like = killed(folder, EPOCHS)
        super().__init__(like.start, like.last)
        self.costs: list[Kill] = []
        self.stage = ""

    def die(self) -> None:
        """Kill an attempt anywhere it gets to.

        Only an attempt with a saved state writes resumed.pt. Near the write of best.pt, attempts are killed
        only while each epoch is a new best.
        """
        places = [*PLACES, *(AROUND_BEST if self.saved < 1 else [])]
        if self.saved < 0:
            places.remove("os.rename resumed.pt.part")
        if self.rng.random() < 0.3:
            self.stage = "at random"
            self.die_some_time()
        else:
            self.stage = self.rng.choice(places)
            self.die_at(self.stage, times=None if self.saved < EPOCHS - 12 else 1)

    def _account(self, attempt: Attempt, where: str) -> None:
        number, begun = self.kills + 1, attempt.begun
        super()._account(attempt, where)
        finished = begun[-1] - 1 if begun else self.saved
        self.costs.append(Kill(self.stage, number, finished, 0.0, self.saved))


@pytest.mark.parametrize("training", range(3))
def test_trainers_that_are_killed_repeatedly_end_with_the_same_bits(
    training: int, report: Report, tmp_path: Path
) -> None:
    del training
    uninterrupted = tmp_path / "uninterrupted"
    killed(uninterrupted, EPOCHS).end()
    again = KillsWithCosts(tmp_path / "killed")
    while again.kills < 26:
        again.die()
    again.end()
    assert load_checkpoint(again.last)["epoch"] == EPOCHS - 1
    same = digests(tmp_path / "killed" / "run") == digests(uninterrupted / "run")
    report.add("the trainer alone", again.costs, same=same)
    assert same, f"seed {again.seed}"
