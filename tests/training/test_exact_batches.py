"""A run that is interrupted after any batch and resumed ends with the same bits as an uninterrupted run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from include.checkpoints.checkpoint import Position
from include.checkpoints.keys import EXACT
from include.training.contract import EpochReport, TrainingProgress, TrainingRequest
from include.training.loading import load_checkpoint
from include.training.resume import restore
from include.training.run import build_trainer, train
from tests.support.tiny_datasets import TASKS
from tests.support.tiny_models import BATCHES, IMAGES, architecture
from tests.support.tiny_trainings import EndsAt, Epochs, recovery, request, weights_of

EPOCHS = 4


def make_request(task: str, folder: Path, /, images: int = IMAGES, **arguments: Any) -> TrainingRequest:
    """Return a request for four epochs of five batches (4, 4, 4, 4 and 2 images) and steps of three batches.

    So the first epoch ends between two optimizer steps.
    """
    given = {"imgsz": 64, "batch": 4, "nbs": 12, "plots": False, "close_mosaic": 2} | arguments
    model = given.pop("model", None) or architecture(folder, task)
    return request(
        task,
        folder,
        images=images,
        model=model,
        epochs=EPOCHS,
        save_dir=folder / "run",
        arguments=given,
        identity={"job": "a"},
    )


def run(wanted: TrainingRequest, reporter: EndsAt, workers: int = 0) -> None:
    with build_trainer(wanted, reporter, reporter) as trainer:
        trainer.args.workers = workers
        reporter.flush = trainer.state_writer.flush
        trainer.train()


def interrupted(
    wanted: TrainingRequest, *positions: Position, workers: tuple[int, ...] = ()
) -> list[EpochReport]:
    """Train with an interruption at each position; return the epoch reports of all attempts."""
    attempt, reports = wanted, []
    for count, position in enumerate(positions):
        ends = EndsAt(position)
        with pytest.raises(EndsAt.Enough):
            run(attempt, ends, workers[count] if workers else 0)
        reports += ends.reports
        state = load_checkpoint(wanted.save_dir / "weights" / "last.pt")
        assert (state["epoch"], state[EXACT]["batch"]) == position
        attempt = recovery(wanted)
        if not attempt.best_from or not attempt.best_from.exists():
            attempt = replace(attempt, best_from=None)
    rest = EndsAt()
    run(attempt, rest, workers[-1] if workers else 0)
    return reports + rest.reports


def uninterrupted(wanted: TrainingRequest, workers: int = 0) -> tuple[str, list[EpochReport]]:
    reports = EndsAt()
    run(wanted, reports, workers)
    digest = weights_of(wanted.save_dir / "weights" / "last.pt")
    shutil.rmtree(wanted.save_dir)
    return digest, reports.reports


def last_of(wanted: TrainingRequest) -> str:
    return weights_of(wanted.save_dir / "weights" / "last.pt")


@pytest.fixture(scope="module")
def whole_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[str, list[EpochReport]]]:
    """Return a function that trains each task once without interruption, and returns weights and reports."""

    @cache
    def train_whole(task: str) -> tuple[str, list[EpochReport]]:
        return uninterrupted(make_request(task, tmp_path_factory.mktemp(task)), workers=1)

    return train_whole


@pytest.mark.parametrize(
    "task", [task if task == "detect" else pytest.param(task, marks=pytest.mark.long) for task in TASKS]
)
def test_every_task_ends_with_the_same_weights_and_the_same_numbers(
    task: str, whole_of: Callable[[str], tuple[str, list[EpochReport]]], tmp_path: Path
) -> None:
    wanted = make_request(task, tmp_path)
    whole, reports = whole_of(task)
    again = interrupted(wanted, (-1, 2), (0, 0), (1, BATCHES), (2, 1), workers=(2, 0, 1, 2, 0))
    assert last_of(wanted) == whole
    # The metrics include running losses and learning rates.
    reported = {report.epoch: report.metrics for report in again}
    assert [reported[report.epoch] for report in reports] == [report.metrics for report in reports]
    assert again[-1].inexact_reason is None


def test_a_model_with_two_heads_ends_with_the_same_weights(tmp_path: Path) -> None:
    """In YOLO26 the balance of the two heads changes after each epoch, even if no batch was left to train."""
    wanted = make_request("detect", tmp_path, model=architecture(tmp_path, end2end=True))
    whole, _ = uninterrupted(wanted)
    interrupted(wanted, (-1, BATCHES), (1, 2))
    assert last_of(wanted) == whole
    head = load_checkpoint(wanted.save_dir / "weights" / "last.pt")["ema"].model[-1]
    assert (len(head.cv2), len(head.one2one_cv2)) == (2, 2)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(
            {"multi_scale": 0.5, "optimizer": "SGD", "cos_lr": True, "warmup_epochs": 1, "cache": "ram"}
            | {"nbs": 8, "close_mosaic": 0},
            marks=pytest.mark.long,
        ),
        {"optimizer": "MuSGD", "nbs": 64, "mixup": 0.5, "cutmix": 0.5, "copy_paste": 0.5, "cache": "disk"}
        | {"mosaic": 0.5, "degrees": 20, "single_cls": True, "warmup_epochs": 0},
        pytest.param(
            {"rect": True, "mosaic": 0.0, "freeze": 3, "val": False, "batch": 8, "seed": 7}
            | {"close_mosaic": 4},
            marks=pytest.mark.long,
        ),
    ],
    ids="-".join,
)
def test_a_run_ends_with_the_same_weights_whatever_the_arguments(
    arguments: dict[str, Any], tmp_path: Path
) -> None:
    wanted = make_request("detect", tmp_path, **arguments)
    whole, _ = uninterrupted(wanted)
    interrupted(wanted, (-1, 1), (1, 0), (2, 2))
    assert last_of(wanted) == whole


def test_dropout_draws_the_same_random_numbers(tmp_path: Path) -> None:
    wanted = make_request("classify", tmp_path, dropout=0.5)
    whole, _ = uninterrupted(wanted)
    interrupted(wanted, (-1, 3), (0, 0), (2, 1))
    assert last_of(wanted) == whole


def test_mosaic_uses_the_images_that_the_interrupted_attempt_would_have_used(tmp_path: Path) -> None:
    wanted = replace(make_request("detect", tmp_path, images=66, batch=2, nbs=8, close_mosaic=1), epochs=3)
    whole, _ = uninterrupted(wanted, workers=1)
    interrupted(wanted, (0, 20), (1, 31), workers=(2, 0, 1))
    assert last_of(wanted) == whole


def test_saving_states_changes_nothing(whole_of: Callable[[str], tuple[str, Any]], tmp_path: Path) -> None:
    wanted = make_request("detect", tmp_path)
    whole, _ = whole_of("detect")
    saves = EndsAt((-1, 2), (0, 1), (2, 4), (9, 9))
    run(wanted, saves)
    assert last_of(wanted) == whole
    assert [(state.epoch, state.batch) for state in saves.saved_states] == [
        (-1, 2), (0, 0), (0, 1), (1, 0), (2, 0), (2, 4), (3, 0),
    ]  # fmt: skip
    times = [state.trained_seconds for state in saves.saved_states]
    assert times == sorted(times)
    assert times[0] > 0
    assert not (wanted.save_dir / "weights" / "epoch-end.pt").exists()


def test_the_duration_of_an_epoch_includes_both_attempts(tmp_path: Path) -> None:
    wanted = make_request("classify", tmp_path)
    first, rest = EndsAt((0, 4)), EndsAt()
    with pytest.raises(EndsAt.Enough):
        run(wanted, first)
    before = load_checkpoint(wanted.save_dir / "weights" / "last.pt")[EXACT]
    run(recovery(wanted), rest)
    assert rest.reports[0].seconds > before["epoch_seconds"] > 0
    assert (
        rest.saved_states[0].trained_seconds
        > before["trained_seconds"]
        > first.saved_states[0].trained_seconds
    )


class Poisons(EndsAt):
    """Makes a weight NaN once, after four batches of the second epoch."""

    def __init__(self, *positions: Position) -> None:
        super().__init__(*positions)
        self.model: Any = None
        self.poisoned = False
        self.requested = 0

    def report_progress(self, progress: TrainingProgress) -> bool:
        if (progress.epoch, progress.batch) == (0, 4) and not self.poisoned:
            self.poisoned = True
            with torch.no_grad():
                next(self.model().parameters()).fill_(torch.nan)
        wanted = super().report_progress(progress)
        self.requested += wanted
        return wanted


def poisoned(wanted: TrainingRequest, reporter: Poisons) -> None:
    with build_trainer(wanted, reporter, reporter) as trainer:
        reporter.model = lambda: trainer.model
        reporter.flush = trainer.state_writer.flush
        trainer.train()


def test_an_epoch_that_ends_in_nan_is_repeated_even_after_states_within_it(tmp_path: Path) -> None:
    wanted = make_request("detect", tmp_path)
    poisoned(wanted, Poisons())
    whole = last_of(wanted)
    shutil.rmtree(wanted.save_dir)

    poisoned(wanted, Poisons((-1, 3), (0, 2), (9, 9)))
    assert last_of(wanted) == whole
    shutil.rmtree(wanted.save_dir)

    with pytest.raises(EndsAt.Enough):
        run(wanted, EndsAt((0, 2)))
    rest = Poisons()
    poisoned(recovery(wanted), rest)
    assert last_of(wanted) == whole
    assert rest.reports[-1].inexact_reason is None


def test_the_loss_of_the_state_at_an_epochs_start_is_reported_if_the_epoch_ends_in_nan(
    tmp_path: Path,
) -> None:
    wanted = make_request("detect", tmp_path)
    with pytest.raises(EndsAt.Enough):
        run(wanted, EndsAt((0, 2)))
    (wanted.save_dir / "weights" / "epoch-end.pt").unlink()
    rest = Poisons()
    poisoned(recovery(wanted), rest)
    assert "epoch 2 ended in NaN after it was resumed midway" in (rest.reports[-1].inexact_reason or "")


def test_no_state_is_saved_in_an_epoch_after_a_nan_or_during_its_repetition(tmp_path: Path) -> None:
    """A state saved in the first pass would seem newer than one saved in the second pass."""
    wanted, reporter = make_request("detect", tmp_path), Poisons((0, 4), (0, 5), (9, 9))
    poisoned(wanted, reporter)
    assert reporter.requested == 4
    assert [(state.epoch, state.batch) for state in reporter.saved_states] == [(0, 0), (1, 0), (2, 0), (3, 0)]


def test_a_run_stopped_in_its_first_epoch_leaves_a_best_pt_and_can_be_resumed(
    whole_of: Callable[[str], tuple[str, Any]], tmp_path: Path
) -> None:
    wanted = make_request("detect", tmp_path)
    whole, _ = whole_of("detect")
    with pytest.raises(EndsAt.Enough):
        run(wanted, EndsAt((-1, 3)))
    attempt = replace(recovery(wanted), best_from=None)
    stopped = train(replace(attempt, was_stopped=True), Epochs())
    assert (stopped.stop_reason, stopped.epoch, stopped.last.position) == ("stopped", -1, (-1, 3))
    assert stopped.fitness is not None
    assert load_checkpoint(Path(stopped.best.path))["optimizer"] is None
    run(attempt, EndsAt())
    assert last_of(wanted) == whole


@pytest.fixture(scope="module")
def within_epoch(tmp_path_factory: pytest.TempPathFactory) -> TrainingRequest:
    """Interrupt a training run within its third epoch; return its request. Tests only read the run."""
    folder = tmp_path_factory.mktemp("within-epoch")
    wanted = replace(make_request("detect", folder), identity={"job": "a", "data": "0" * 64})
    with pytest.raises(EndsAt.Enough):
        run(wanted, EndsAt((1, 3)))
    return wanted


def test_a_new_job_continues_within_the_epoch_but_restarts_it_with_another_batch_size(
    within_epoch: TrainingRequest, tmp_path: Path
) -> None:
    parent = within_epoch.save_dir / "weights"
    child = replace(
        within_epoch,
        save_dir=tmp_path / "child",
        resume_from=parent / "last.pt",
        best_from=parent / "best.pt",
        arguments={},
    )
    within, anew = EndsAt((1, 1), (9, 9)), EndsAt((1, 1), (9, 9))
    run(child, within)
    run(replace(child, save_dir=tmp_path / "other", arguments={"batch": 6}), anew)
    for reporter in (within, anew):
        assert [report.epoch for report in reporter.reports] == [2, 3]
    assert (1, 1) not in [(state.epoch, state.batch) for state in within.saved_states]
    assert (1, 1) in [(state.epoch, state.batch) for state in anew.saved_states]


def test_a_dataset_that_has_grown_restarts_the_epoch_with_a_reason(tmp_path: Path) -> None:
    wanted = make_request("detect", tmp_path)
    with pytest.raises(EndsAt.Enough):
        run(wanted, EndsAt((1, 3)))
    images = wanted.data.parent / "images" / "train"
    image = min(images.iterdir())
    for number in range(4):
        shutil.copy(image, images / f"new-{number}{image.suffix}")
    rest = EndsAt()
    run(recovery(wanted), rest)
    assert [report.epoch for report in rest.reports] == [2, 3]
    assert rest.reports[0].inexact_reason == "the data or the batch size changed, so epoch 3 restarted"


def test_plain_ultralytics_resumes_a_mid_epoch_state_at_the_beginning_of_the_epoch(tmp_path: Path) -> None:
    from ultralytics import YOLO

    wanted = make_request("detect", tmp_path)
    with pytest.raises(EndsAt.Enough):
        run(wanted, EndsAt((0, 2)))
    begun: list[int] = []
    model = YOLO(wanted.save_dir / "weights" / "last.pt")
    model.add_callback("on_train_epoch_start", lambda trainer: begun.append(trainer.epoch))
    model.train(resume=True)
    assert begun == [1, 2, 3]


def test_the_batch_may_be_halved_in_the_first_epoch_even_after_a_resume(tmp_path: Path) -> None:
    """Until an epoch has finished, nothing proves that the batch fits into memory."""
    wanted = make_request("detect", tmp_path)
    for position, fits in (((-1, 3), False), ((0, 3), True)):
        with pytest.raises(EndsAt.Enough):
            run(wanted, EndsAt(position))
        attempt = recovery(wanted)
        assert attempt.resume_from is not None
        best = attempt.best_from if attempt.best_from and attempt.best_from.exists() else None
        restored = restore(replace(attempt, best_from=best), attempt.resume_from)
        assert (restored.fits_memory_of is not None) is fits


def test_a_new_job_with_other_data_restarts_the_epoch(within_epoch: TrainingRequest, tmp_path: Path) -> None:
    last = within_epoch.save_dir / "weights" / "last.pt"
    for data, batches in (("0" * 64, 3), ("1" * 64, 0)):
        child = replace(within_epoch, save_dir=tmp_path / data[:1], resume_from=last, identity={"data": data})
        restored = restore(replace(child, best_from=last.with_name("best.pt")), last)
        assert load_checkpoint(restored.path)[EXACT]["batch"] == batches
        reason = None if batches else "the data or the image size changed, so epoch 3 restarted"
        assert restored.inexact_reason == reason
