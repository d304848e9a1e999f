"""If an attempt at `train` is interrupted after any batch, the next one continues there, on any machine."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from include.checkpoints.keys import EXACT, LOSS_WATCH
from include.training.loading import load_checkpoint
from tests.support.interrupted_attempts import Place, Trial, store_model

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.stack.s3 import S3


@pytest.fixture
def place(s3: S3, s3_client: S3Client, bucket: str, training_url: str, tmp_path: Path) -> Place:
    return Place(s3, s3_client, bucket, training_url, tmp_path)


@pytest.mark.long
def test_an_interrupted_run_ends_with_the_same_weights_on_the_same_and_on_another_machine(
    place: Place,
) -> None:
    """The saved states also contain the older states to which a rollback could return."""
    rules = {"on_loss_spike": "roll back", "roll_back_states": 2}
    store_model(place, "classify")
    weights = Trial(place, "whole", "classify", 1, epochs=4, rules=rules).end()
    rng = random.Random(seed := random.randrange(2**32))
    again = Trial(place, "again", "classify", 1, epochs=4, rules=rules)
    again.interrupt("stop", rng, disk_lost=True)
    again.interrupt("terminate", rng, disk_lost=False)
    assert again.end() == weights, f"seed {seed}"
    assert [each.how for each in again.interruptions] == ["stop", "terminate"]
    state = load_checkpoint(place.folder / "again.pt")[EXACT]
    assert len(state[LOSS_WATCH]["seen"]["usual"]) == 100  # the rules watched the loss in every attempt
