"""A checkpoint is loaded without running code from it, and only a whole one can be resumed."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from include.checkpoints.inspection.inspect import inspect_file
from include.training.contract import NotResumable, TrainingError, TrainingResult, UnreadableCheckpoint
from include.training.loading import (
    hand_over,
    load_checkpoint,
    load_training_state,
    read_task,
)
from include.training.run import train
from include.training.saving import save
from tests.support.tiny_trainings import Epochs, request


@pytest.fixture(scope="module")
def training_result(tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    folder = tmp_path_factory.mktemp("trained")
    return train(request("classify", folder, model="yolo11n-cls", epochs=1), Epochs())


@pytest.mark.parametrize("reads", [1, 2])
def test_a_state_passed_on_in_memory_is_returned_as_often_as_requested(
    training_result: TrainingResult, reads: int
) -> None:
    last = Path(training_result.last.path)
    state = load_checkpoint(last)
    hand_over(last, state, reads)
    for _ in range(reads):
        assert load_checkpoint(last) is state
    assert load_checkpoint(last) is not state


def test_a_file_that_has_changed_since_its_state_was_passed_on_is_read_from_disk(
    training_result: TrainingResult, tmp_path: Path
) -> None:
    last = Path(shutil.copy(training_result.last.path, tmp_path / "last.pt"))
    state = load_checkpoint(last)
    hand_over(last, state)
    save(state | {"epoch": 7}, last)
    assert load_checkpoint(last)["epoch"] == 7


class Planted:
    """An object whose pickle creates a file when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.target,)


def _zipped(planted: Planted, path: Path) -> None:
    torch.save({"epoch": 3, "optimizer": {"state": {0: 1}}, "train_args": {}, "model": planted}, path)


def _in_the_old_format(planted: Planted, path: Path) -> None:
    torch.save({"epoch": 3, "model": planted}, path, _use_new_zipfile_serialization=False)


def _bare(planted: Planted, path: Path) -> None:
    path.write_bytes(pickle.dumps(planted))


@pytest.mark.parametrize("plant", [_zipped, _in_the_old_format, _bare])
def test_a_planted_pickle_is_refused_and_never_runs(
    plant: Callable[[Planted, Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof, last = tmp_path / "it-ran", tmp_path / "last.pt"
    plant(Planted(proof), last)
    with pytest.raises(UnreadableCheckpoint, match="not a checkpoint that can be loaded safely"):
        load_checkpoint(last)
    with pytest.raises(NotResumable):
        train(request("classify", tmp_path, resume_from=last), Epochs())
    with pytest.raises(TrainingError, match=r"model=.*last\.pt cannot be used"):
        train(request("classify", tmp_path, model=str(last)), Epochs())
    assert not proof.exists()
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    with suppress(RuntimeError):  # torch runs a bare pickle before noticing that it is not a checkpoint
        torch.load(last, weights_only=False)
    assert proof.exists(), "the payload has no effect even in torch, so this test proves nothing"


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "spoil",
    [
        _cut,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no checkpoint at all"),
        lambda path: torch.save({"weights": torch.zeros(2)}, path),
        lambda path: torch.save([1, 2], path),
        Path.unlink,
    ],
    ids=["cut", "empty", "text", "other tensors", "a list", "missing"],
)
def test_a_file_that_is_not_a_checkpoint_is_refused_with_its_path(
    spoil: Callable[[Path], object], training_result: TrainingResult, tmp_path: Path
) -> None:
    path = tmp_path / "last.pt"
    path.write_bytes(Path(training_result.last.path).read_bytes())
    spoil(path)
    with pytest.raises(UnreadableCheckpoint, match=str(path)):
        load_training_state(path)


def test_a_complete_checkpoint_describes_itself(training_result: TrainingResult) -> None:
    last = Path(training_result.last.path)
    contents, state = inspect_file(last), load_training_state(last)
    assert contents.task == read_task(state) == "classify"
    assert contents.model == "yolo11n-cls.yaml"
    assert (contents.epoch, state["epoch"], state["train_args"]["epochs"]) == (0, 0, 1)
    assert contents.resumable
    assert (
        state["best_fitness"] == state["train_metrics"]["fitness"] == pytest.approx(training_result.fitness)
    )
    assert contents.ultralytics_version == training_result.ultralytics_version
    assert Path(state["train_args"]["data"]).is_dir()


def test_a_stripped_checkpoint_is_recognised_and_cannot_be_resumed(training_result: TrainingResult) -> None:
    best = Path(training_result.best.path)
    contents = inspect_file(best)
    assert (contents.epoch, contents.resumable, contents.model) == (None, False, "yolo11n-cls.yaml")
    message = r"stripped for deployment; resume from a last\.pt that was not stripped"
    with pytest.raises(NotResumable, match=message):
        load_training_state(best)


def test_a_checkpoint_of_another_task_cannot_be_resumed(training_result: TrainingResult) -> None:
    last = Path(training_result.last.path)
    assert load_training_state(last, "classify")["epoch"] == 0
    with pytest.raises(NotResumable, match="task classify, but task=pose"):
        load_training_state(last, "pose")
