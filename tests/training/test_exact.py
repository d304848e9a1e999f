"""A training run that is interrupted and resumed ends with the same bits as an uninterrupted run."""

from __future__ import annotations

import random
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._inductor import config as inductor

from include.checkpoints.keys import EXACT
from include.training.contract import EpochReport, EpochReporter, StateMismatch, TrainingRequest
from include.training.loading import load_checkpoint
from include.training.run import build_trainer, train
from tests.support.tiny_models import IMAGES
from tests.support.tiny_trainings import Epochs, GivesUp, recovery, request, train_with, weights_of

DEFAULTS: dict[str, object] = {"imgsz": 64, "batch": 4, "plots": False, "close_mosaic": 2}
"""The other arguments have Ultralytics' defaults, so that nbs=64 accumulates 16 batches.

Mosaic is off in the last two epochs.
"""


def make_request(
    task: str, folder: Path, /, images: int = IMAGES, model: str | None = None, **arguments: Any
) -> TrainingRequest:
    """Return a request for five epochs that end between optimizer steps; their last batch has 2 images."""
    return request(
        task,
        folder,
        images=images,
        model=model,
        epochs=5,
        save_dir=folder / "run",
        arguments=DEFAULTS | arguments,
        identity={"job": "a"},
    )


def interrupted(wanted: TrainingRequest, *after: int, workers: tuple[int, ...] = ()) -> str:
    """Train with an interruption after each of the epochs `after`; return the hash of the final weights."""
    attempt = wanted
    reporters: list[EpochReporter] = [*map(GivesUp, after), Epochs()]
    for count, reporter in enumerate(reporters):
        threads = workers[count] if workers else 0
        try:
            train_with(threads, attempt, reporter)
        except GivesUp.Enough:
            attempt = recovery(wanted)
    last = wanted.save_dir / "weights" / "last.pt"
    assert load_checkpoint(last)["epoch"] == 4 or load_checkpoint(last)[EXACT]["ended"]
    return weights_of(last)


def uninterrupted(wanted: TrainingRequest, workers: int = 0) -> str:
    train_with(workers, wanted, Epochs())
    digest = weights_of(wanted.save_dir / "weights" / "last.pt")
    shutil.rmtree(wanted.save_dir)
    return digest


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the hash of the final weights of an uninterrupted classifier."""
    return uninterrupted(make_request("classify", tmp_path_factory.mktemp("whole")))


def test_the_bits_depend_on_the_seed(whole: str, tmp_path: Path) -> None:
    assert uninterrupted(make_request("classify", tmp_path, seed=1)) != whole


def test_early_stopping_stops_at_the_same_epoch(tmp_path: Path) -> None:
    wanted = make_request("classify", tmp_path, patience=2, optimizer="SGD", lr0=1e-9, warmup_epochs=0)
    whole = uninterrupted(wanted)
    assert interrupted(wanted, 2) == whole
    result = train(recovery(wanted), Epochs())
    assert (result.stop_reason, result.epoch) == ("early_stopping", 2)


def test_an_attempt_that_ended_before_the_final_validation_resumes_with_that_validation(
    whole: str, tmp_path: Path
) -> None:
    wanted, epochs = make_request("classify", tmp_path), Epochs()
    with pytest.raises(GivesUp.Enough):
        train(wanted, GivesUp(after=5))
    result = train(recovery(wanted), epochs)
    assert epochs.reports == []
    assert (result.stop_reason, result.epoch, result.start_epoch) == ("completed", 4, 5)
    assert result.fitness is not None
    assert weights_of(Path(result.last.path)) == whole
    assert load_checkpoint(Path(result.best.path))["epoch"] == -1


class CountsThreads(Epochs):
    """Records the number of torch threads in each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()

    def report(self, epoch: EpochReport) -> bool:
        self.threads.add(torch.get_num_threads())
        return super().report(epoch)


def test_the_thread_count_of_the_interrupted_attempt_is_restored(tmp_path: Path) -> None:
    wanted = make_request("classify", tmp_path)
    with pytest.raises(GivesUp.Enough):
        train(wanted, GivesUp(after=1))
    before = torch.get_num_threads()
    last = wanted.save_dir / "weights" / "last.pt"
    state = load_checkpoint(last)
    state[EXACT]["profile"]["threads"] = before + 1
    torch.save(state, last)
    epochs = CountsThreads()
    try:
        train(recovery(wanted), epochs)
    finally:
        torch.set_num_threads(before)
    assert epochs.threads == {before + 1}
    assert epochs.reports[-1].inexact_reason is None


def test_another_numeric_profile_continues_and_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = make_request("classify", tmp_path)
    with pytest.raises(GivesUp.Enough):
        train(wanted, GivesUp(after=1))
    last = wanted.save_dir / "weights" / "last.pt"
    state = load_checkpoint(last)
    state[EXACT]["profile"] |= {"torch": "1.0", "device": "abacus"}
    torch.save(state, last)
    epochs = Epochs()
    train(recovery(wanted), epochs)
    reason = epochs.reports[-1].inexact_reason
    assert reason is not None
    assert reason.startswith(f"epoch 2 continues with torch {torch.__version__.split('+')[0]} instead of 1.0")
    assert "instead of abacus" in reason
    assert reason in caplog.text
    assert load_checkpoint(last)[EXACT]["inexact_reason"] == reason


def test_a_model_that_is_compiled_only_on_some_machines_is_reported(tmp_path: Path) -> None:
    """Ultralytics continues without `compile` on a machine without a compiler."""
    wanted = make_request("classify", tmp_path, compile=True)
    with inductor.patch({"cpp.cxx": (None, "no-such-compiler")}), pytest.raises(GivesUp.Enough):
        train(wanted, GivesUp(after=1))
    with (
        inductor.patch({"cpp.cxx": (None, sys.executable)}),  # nothing is compiled before the first batch
        build_trainer(recovery(wanted), Epochs()) as trainer,
    ):
        trainer._setup_train()
        assert trainer.inexact_reason == "epoch 2 continues with model compiled instead of not compiled"


def test_a_time_budget_is_outside_the_guarantee(tmp_path: Path) -> None:
    epochs = Epochs()
    train(make_request("classify", tmp_path, time=1e-4), epochs)
    assert "time=0.0001" in (epochs.reports[0].inexact_reason or "")


def test_the_state_of_another_training_run_is_refused_and_the_difference_is_named(tmp_path: Path) -> None:
    wanted = make_request("classify", tmp_path)
    with pytest.raises(GivesUp.Enough):
        train(wanted, GivesUp(after=1))
    other = TrainingRequest(**(vars(recovery(wanted)) | {"identity": {"job": "a", "batch": 8}}))
    with pytest.raises(StateMismatch, match=r"another training run \(batch was None and is 8\); give the"):
        train(other, Epochs())


class Stops:
    """An EpochReporter that stops the training run after some epochs, as a user's stop request would."""

    def __init__(self, after: int) -> None:
        self.after = after

    def report(self, epoch: EpochReport) -> bool:
        return epoch.epoch + 1 < self.after


def test_a_stopped_training_run_resumes_and_ends_with_the_same_weights(whole: str, tmp_path: Path) -> None:
    wanted = make_request("classify", tmp_path)
    stopped = train(wanted, Stops(after=2))
    assert (stopped.stop_reason, stopped.epoch) == ("stopped", 1)
    assert stopped.fitness is not None
    result = train(recovery(wanted), Epochs())
    assert (result.stop_reason, weights_of(Path(result.last.path))) == ("completed", whole)


def test_random_numbers_drawn_by_other_threads_change_nothing(tmp_path: Path) -> None:
    """On a CPU, samples are made in this process, where clients also draw random delays between retries."""
    wanted = make_request("detect", tmp_path, multi_scale=0.5)
    whole = uninterrupted(wanted)
    ended = threading.Event()

    def draw() -> None:
        while not ended.wait(0.0005):
            random.random()

    other = threading.Thread(target=draw)
    other.start()
    try:
        assert uninterrupted(wanted) == whole
    finally:
        ended.set()
        other.join()
