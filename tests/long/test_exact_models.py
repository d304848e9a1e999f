"""The nano model of every task ends with the same weights after interruptions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from include.training.loading import load_training_state
from include.training.run import train
from tests.support.tiny_datasets import TASKS
from tests.support.tiny_models import nano
from tests.support.tiny_trainings import Epochs, request
from tests.training.test_exact_batches import interrupted, last_of, make_request, uninterrupted
from tests.training.test_trainer_resume import Parent

if TYPE_CHECKING:
    from include.ultralytics_tasks import Task


@pytest.mark.parametrize("task", TASKS)
def test_every_nano_model_ends_with_the_same_weights(task: Task, tmp_path: Path) -> None:
    wanted = make_request(task, tmp_path, model=nano(task))
    whole, _ = uninterrupted(wanted, workers=1)
    interrupted(wanted, (-1, 3), (1, 0), (2, 4), workers=(2, 0, 1, 2))
    assert last_of(wanted) == whole


@pytest.mark.parametrize("task", TASKS)
def test_every_nano_model_is_trained_for_another_epoch(task: Task, tmp_path: Path) -> None:
    wanted = request(task, tmp_path, epochs=1, model=nano(task))
    parent = Parent(wanted, train(wanted, Epochs()))
    result = train(parent.continued(tmp_path / "child", epochs=2), Epochs())
    assert (result.start_epoch, result.epoch) == (1, 1)
    assert load_training_state(Path(result.last.path), task)["epoch"] == 1
