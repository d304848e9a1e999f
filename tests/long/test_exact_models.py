"""The nano model of every task ends with the same weights after interruptions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tiny_datasets import TASKS
from tests.support.tiny_models import nano
from tests.training.test_exact_batches import asked, interrupted, last_of, uninterrupted


@pytest.mark.parametrize("task", TASKS)
def test_every_nano_model_ends_with_the_same_weights(task: str, tmp_path: Path) -> None:
    wanted = asked(task, tmp_path, model=nano(task))
    whole, _ = uninterrupted(wanted, workers=1)
    interrupted(wanted, (-1, 3), (1, 0), (2, 4), workers=(2, 0, 1, 2))
    assert last_of(wanted) == whole
