"""A run continues from its last.pt at the next epoch, with its optimizer, history and best model."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics.utils.torch_utils import strip_optimizer

from include.checkpoints.checkpoint import Checkpoint
from include.checkpoints.keys import BEST_EPOCH, EXACT
from include.training.contract import NotResumable, TrainingError, TrainingRequest, TrainingResult
from include.training.loading import load_checkpoint, load_training_state
from include.training.resumed_arguments import find_changed_arguments
from include.training.run import train
from include.training.saving import strip
from tests.support.tiny_trainings import QUICK, STANDSTILL, Epochs, GivesUp, recovery, request


@dataclass(frozen=True)
class Parent:
    """A finished training run of three epochs that other runs can continue."""

    request: TrainingRequest
    result: TrainingResult

    @property
    def last(self) -> Path:
        return Path(self.result.last.path)

    @property
    def best(self) -> Path:
        return Path(self.result.best.path)

    def continued(self, folder: Path, **given: Any) -> TrainingRequest:
        settings: dict[str, Any] = {
            "save_dir": folder / "runs" / "train",
            "epochs": 5,
            "arguments": {},
            "resume_from": self.last,
            "best_from": self.best,
        }
        return replace(self.request, **(settings | given))


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Parent:
    training_request = request(
        "classify", tmp_path_factory.mktemp("parent"), epochs=3, arguments=QUICK | {"nbs": 4}
    )
    return Parent(training_request, train(training_request, Epochs()))


@pytest.fixture(scope="module")
def unbeatable(parent: Parent, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the parent's last.pt with a best fitness that no later epoch can beat."""
    state = load_checkpoint(parent.last)
    state["best_fitness"] = 2.0
    path = tmp_path_factory.mktemp("unbeatable") / "last.pt"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def child(parent: Parent, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingResult, Epochs]:
    epochs = Epochs()
    return train(parent.continued(tmp_path_factory.mktemp("child")), epochs), epochs


def test_a_resumed_run_continues_at_the_next_epoch_up_to_the_new_number_of_epochs(
    child: tuple[TrainingResult, Epochs],
) -> None:
    result, epochs = child
    assert [report.epoch for report in epochs.reports] == [3, 4]
    assert {report.epochs for report in epochs.reports} == {5}
    assert (result.start_epoch, result.epoch, result.epochs) == (3, 4, 5)
    assert result.stop_reason == "completed"
    assert load_training_state(Path(result.last.path))["train_args"]["epochs"] == 5


def test_the_optimizer_and_the_ema_continue_counting(
    parent: Parent, child: tuple[TrainingResult, Epochs]
) -> None:
    before, after = load_checkpoint(parent.last), load_checkpoint(Path(child[0].last.path))
    assert _steps(after) > _steps(before) > 0
    assert after["updates"] > before["updates"] > 0


def _steps(state: dict[str, Any]) -> float:
    return float(state["optimizer"]["state"][0]["step"])


def test_the_history_of_all_epochs_is_kept(parent: Parent, child: tuple[TrainingResult, Epochs]) -> None:
    old, new = (
        (Path(r.last.path).parents[1] / "results.csv").read_text().splitlines()
        for r in (parent.result, child[0])
    )
    assert new[: len(old)] == old
    assert [line.split(",")[0] for line in new[1:]] == ["1", "2", "3", "4", "5"]
    assert load_checkpoint(Path(child[0].last.path))["train_results"]["epoch"] == [1, 2, 3, 4, 5]


def test_stripping_gives_the_same_file_as_ultralytics(parent: Parent, tmp_path: Path) -> None:
    files = [Path(shutil.copy(parent.last, tmp_path / name)) for name in ("ours.pt", "ultralytics.pt")]
    epoch = strip(files[0], files[0])
    strip_optimizer(files[1])
    ours, theirs = (load_checkpoint(file) for file in files)
    assert (epoch, ours.pop(BEST_EPOCH), ours.pop(EXACT)) == (2, 2, None)
    assert theirs.pop(EXACT) is not None
    models = [checkpoint.pop("model") for checkpoint in (ours, theirs)]
    assert ours == theirs
    assert [type(value) for value in vars(models[0]).values()] == [
        type(value) for value in vars(models[1]).values()
    ]
    assert not any(parameter.requires_grad for parameter in models[0].parameters())
    weights = [model.state_dict() for model in models]
    assert weights[0].keys() == weights[1].keys()
    assert all(tensor.dtype == weights[1][name].dtype for name, tensor in weights[0].items())
    assert all(tensor.equal(weights[1][name]) for name, tensor in weights[0].items())


def test_the_parents_files_stay_unchanged(parent: Parent, child: tuple[TrainingResult, Epochs]) -> None:
    assert Checkpoint.of_file(parent.last, 2) == parent.result.last
    assert Checkpoint.of_file(parent.best, parent.result.best_epoch) == parent.result.best


def test_only_the_two_checkpoints_are_left_after_a_resume(child: tuple[TrainingResult, Epochs]) -> None:
    folder = Path(child[0].last.path).parent
    assert sorted(path.name for path in folder.iterdir()) == ["best.pt", "last.pt"]
    assert not list(folder.parent.glob("*.pt*"))


def test_a_best_pt_that_is_not_beaten_is_kept(parent: Parent, unbeatable: Path, tmp_path: Path) -> None:
    result = train(parent.continued(tmp_path, resume_from=unbeatable), Epochs())
    assert result.best_epoch == parent.result.best_epoch
    assert _weights(Path(result.best.path)) == _weights(parent.best)
    assert result.best.size > 0


def test_without_a_best_pt_the_best_resumed_epoch_becomes_best_pt(
    parent: Parent, unbeatable: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = train(parent.continued(tmp_path, resume_from=unbeatable, best_from=None), Epochs())
    assert result.best_epoch in {3, 4}
    assert "has no best.pt: the best epoch from now on becomes best.pt" in caplog.text


def test_without_a_best_pt_a_last_pt_of_the_best_epoch_becomes_best_pt(
    parent: Parent, tmp_path: Path
) -> None:
    state = load_checkpoint(parent.last)
    state["best_fitness"] = state["train_metrics"]["fitness"] = 2.0
    last = tmp_path / "last.pt"
    torch.save(state, last)
    result = train(parent.continued(tmp_path, resume_from=last, best_from=None), Epochs())
    assert result.best_epoch == 2


def _weights(path: Path) -> str:
    tensors = load_checkpoint(path)["model"].state_dict().values()
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors)).hexdigest()


def test_a_used_up_patience_is_reset_on_resume(tmp_path: Path) -> None:
    training_request = request("classify", tmp_path, epochs=9, arguments=STANDSTILL | {"patience": 2})
    stopped = Parent(training_request, train(training_request, Epochs()))
    assert (stopped.result.stop_reason, stopped.result.epoch) == ("early_stopping", 2)
    result = train(stopped.continued(tmp_path / "child", epochs=None), Epochs())
    assert (result.stop_reason, result.epoch, result.epochs) == ("early_stopping", 4, 9)


def spend(seconds: float, folder: Path) -> TrainingRequest:
    """Interrupt a run of an hour after an epoch, which is said to have taken so long; return its recovery."""
    training_request = request("classify", folder, epochs=None, arguments=QUICK | {"time": 1})
    with pytest.raises(GivesUp.Enough):
        train(training_request, GivesUp(after=1))
    last = training_request.save_dir / "weights" / "last.pt"
    state = load_checkpoint(last)
    state[EXACT]["trained_seconds"] = seconds
    torch.save(state, last)
    return recovery(training_request)


def test_a_time_budget_includes_the_time_of_earlier_attempts(tmp_path: Path) -> None:
    """Otherwise, a run that is always interrupted before its budget ends would never end."""
    result = train(spend(3600.0, tmp_path), GivesUp(after=4))
    assert (result.stop_reason, result.epoch) == ("time_budget", 1)


def test_a_time_budget_that_is_half_spent_changes_no_learning_rate(tmp_path: Path) -> None:
    """The warm-up of three epochs of two batches continues: the rates are those of batches 1, 3 and 5."""
    attempt = spend(1800.0, tmp_path)
    with pytest.raises(GivesUp.Enough):
        train(attempt, GivesUp(after=4))
    rates = load_checkpoint(attempt.save_dir / "weights" / "last.pt")["train_results"]["lr/pg0"]
    assert [rate / rates[0] for rate in rates[:3]] == pytest.approx([1, 3, 5], rel=0.02)


def test_only_arguments_that_may_change_on_resume_are_changed(parent: Parent, tmp_path: Path) -> None:
    changes = {"batch": 2, "patience": 7, "close_mosaic": 1, "lr0": 0.5, "optimizer": "auto"}
    result = train(parent.continued(tmp_path, epochs=4, arguments=changes), Epochs())
    before, after = (load_checkpoint(path)["train_args"] for path in (parent.last, Path(result.last.path)))
    assert {name: after[name] for name in ("batch", "patience", "close_mosaic")} == {
        "batch": 2,
        "patience": 7,
        "close_mosaic": 1,
    }
    assert (after["lr0"], after["optimizer"]) == (0.5, before["optimizer"])


def test_a_changed_learning_rate_and_momentum_are_used_and_reported(tmp_path: Path) -> None:
    arguments = QUICK | {"optimizer": "SGD", "lr0": 0.01, "warmup_epochs": 0, "momentum": 0.9}
    training_request = request("classify", tmp_path, epochs=2, arguments=arguments)
    parent = Parent(training_request, train(training_request, Epochs()))
    changes = arguments | {"lr0": 0.002, "momentum": 0.8, "weight_decay": 0.001}
    epochs = Epochs()
    result = train(parent.continued(tmp_path / "child", epochs=4, arguments=changes), epochs)

    before, after = (load_checkpoint(path)["optimizer"] for path in (parent.last, Path(result.last.path)))
    was, is_ = before["param_groups"][0], after["param_groups"][0]
    assert (was["initial_lr"], is_["initial_lr"]) == (0.01, 0.002)
    assert (was["momentum"], is_["momentum"]) == (0.9, 0.8)
    assert is_["weight_decay"] > was["weight_decay"]
    at_its_end = 0.002 * (0.01 + 0.99 * 1 / 4)  # the fourth epoch of a linear decay to a hundredth
    assert epochs.reports[-1].metrics["lr/pg0"] == pytest.approx(at_its_end, rel=0.01)
    reason = epochs.reports[0].inexact_reason
    assert reason is not None
    assert reason.startswith("trained from epoch 3 on with lr0=0.002 instead of 0.01, momentum=0.8 instead")
    again = train(parent.continued(tmp_path / "same", epochs=3, arguments=arguments), same := Epochs())
    assert (again.epoch, same.reports[0].inexact_reason) == (2, None)


@pytest.mark.parametrize(
    ("given", "trained", "changed"),
    [
        ({"lr0": 0.1, "mosaic": 0.5}, {"lr0": 0.1, "mosaic": 1.0}, ("mosaic",)),
        ({"imgsz": 50, "batch": -1}, {"imgsz": 64, "batch": 8}, ()),
        ({"imgsz": 96, "batch": 4}, {"imgsz": 64, "batch": 8}, ("imgsz", "batch")),
        ({"workers": 2, "patience": 3, "plots": False}, {"workers": 8, "patience": 9, "plots": True}, ()),
        ({"warmup_bias_lr": 0.1}, {"warmup_bias_lr": 0.0}, ()),
    ],
)
def test_only_arguments_that_affect_the_weights_count_as_changed(
    given: dict[str, object], trained: dict[str, object], changed: tuple[str, ...]
) -> None:
    assert find_changed_arguments(given, trained) == changed


def test_an_interrupted_run_continues_in_its_own_folder(tmp_path: Path) -> None:
    training_request = request("classify", tmp_path, epochs=4)
    with pytest.raises(GivesUp.Enough):
        train(training_request, GivesUp(after=2))
    weights = training_request.save_dir / "weights"
    epochs = Epochs()
    again = replace(
        training_request, epochs=None, resume_from=weights / "last.pt", best_from=weights / "best.pt"
    )
    result = train(again, epochs)
    assert [report.epoch for report in epochs.reports] == [2, 3]
    assert (result.epoch, result.epochs) == (3, 4)


@pytest.mark.parametrize("epochs", [None, 1, 3])
def test_resuming_with_no_epoch_left_to_train_is_refused(
    epochs: int | None, parent: Parent, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=r"leaves nothing to train: .* has finished 3 epochs; set epochs"):
        train(parent.continued(tmp_path, epochs=epochs), Epochs())
    assert not list(tmp_path.iterdir())


def test_a_stripped_file_is_refused(parent: Parent, tmp_path: Path) -> None:
    with pytest.raises(NotResumable, match="holds no optimizer state, because it was stripped"):
        train(parent.continued(tmp_path, resume_from=parent.best), Epochs())


def test_a_missing_file_is_refused_although_another_run_is_in_the_working_directory(
    parent: Parent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "other" / "weights").mkdir(parents=True)
    shutil.copy(parent.last, tmp_path / "runs" / "other" / "weights" / "last.pt")
    monkeypatch.chdir(tmp_path)  # where Ultralytics would fall back to the newest run
    with pytest.raises(NotResumable, match=r"gone\.pt does not exist"):
        train(parent.continued(tmp_path, resume_from=tmp_path / "gone.pt"), Epochs())


def test_the_checkpoint_of_another_task_is_refused(parent: Parent, tmp_path: Path) -> None:
    detect = request("detect", tmp_path, resume_from=parent.last)
    with pytest.raises(NotResumable, match="was trained for task classify, but task=detect"):
        train(detect, Epochs())
