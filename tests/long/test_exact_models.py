"""The nano model of every task, as people train it, ends with the same weights after interruptions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_exact import asked, interrupted, uninterrupted
from tests.tiny_datasets import TASKS


@pytest.mark.parametrize("task", TASKS)
def test_every_nano_model_ends_with_the_same_weights(task: str, tmp_path: Path) -> None:
    wanted = asked(task, tmp_path)
    assert interrupted(wanted, 1, 3, workers=(2, 0, 1)) == uninterrupted(wanted, workers=1)
