"""A training run leaves a complete last.pt and a deployable best.pt, for every task and however it ends."""

from __future__ import annotations

import json
import math
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from include.checkpoints.checkpoint import Checkpoint
from include.checkpoints.inspection.inspect import inspect_file
from include.pictures.choosing import choose_pictures
from include.training.contract import (
    DeviceNotAvailable,
    EpochReport,
    TrainingError,
    TrainingRequest,
    TrainingResult,
)
from include.training.loading import load_checkpoint, load_training_state
from include.training.quiet import tame_ultralytics
from include.training.run import train
from tests.support.node import evaluate, needs_node
from tests.support.tiny_datasets import TASKS, build
from tests.support.tiny_models import nano
from tests.support.tiny_trainings import QUICK, STANDSTILL, Epochs, GivesUp, request


@dataclass(frozen=True)
class Finished:
    request: TrainingRequest
    result: TrainingResult
    reports: list[EpochReport]

    @property
    def weights(self) -> Path:
        return self.request.save_dir / "weights"


@pytest.fixture(scope="module", params=TASKS)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp(request.param)
    training_request, epochs = _request(request.param, folder, model=nano(request.param)), Epochs()
    return Finished(training_request, train(training_request, epochs), epochs.reports)


_request = request  # kept under another name, because the fixture `finished` has a parameter `request`


def test_last_pt_is_the_whole_training_state_after_training(finished: Finished) -> None:
    state = load_training_state(finished.weights / "last.pt", finished.request.task)
    assert state["epoch"] == 1
    assert state["optimizer"]["state"]
    assert state["ema"] is not None
    assert state["updates"] > 0
    assert state["scaler"] is not None
    assert state["stopper"]["best_epoch"] >= 1
    assert state["train_args"]["epochs"] == 2


def test_best_pt_is_stripped_and_predicts(finished: Finished) -> None:
    from ultralytics import YOLO

    best = finished.weights / "best.pt"
    assert not inspect_file(best).resumable
    assert best.stat().st_size < (finished.weights / "last.pt").stat().st_size / 2
    data = finished.request.data
    images = (data if data.is_dir() else data.parent).rglob("*.png")
    results = YOLO(best).predict(next(images), imgsz=64, device="cpu", verbose=False)
    names = {"classify": {0: "arrow", 1: "box"}, "depth": {0: "depth"}}
    assert results[0].names == names.get(finished.request.task, {0: "box", 1: "arrow"})


def test_the_result_names_both_files_by_content(finished: Finished) -> None:
    result = finished.result
    assert result.best == Checkpoint.of_file(finished.weights / "best.pt", result.best_epoch)
    assert result.last == Checkpoint.of_file(finished.weights / "last.pt", 1)
    assert (result.epoch, result.epochs, result.start_epoch) == (1, 2, 0)
    assert result.best_epoch in {0, 1}
    assert (result.stop_reason, result.device) == ("completed", "cpu")


def test_each_epoch_is_reported_once_with_the_names_of_results_csv(finished: Finished) -> None:
    assert [report.epoch for report in finished.reports] == [0, 1]
    heading = (finished.request.save_dir / "results.csv").read_text(encoding="utf-8").splitlines()[0]
    assert ["epoch", "time", *finished.reports[-1].metrics] == heading.split(",")
    assert set(finished.result.metrics) <= set(finished.reports[-1].metrics)
    assert finished.reports[0].epochs == 2
    assert finished.reports[0].seconds > 0
    assert finished.reports[0].eta_seconds > 0
    assert finished.reports[1].eta_seconds == 0


def test_every_number_is_finite_or_none(finished: Finished) -> None:
    numbers = [*finished.result.metrics.values(), finished.result.fitness]
    for report in finished.reports:
        numbers += [*report.metrics.values(), report.fitness]
    assert all(number is None or (type(number) is float and math.isfinite(number)) for number in numbers)


def test_only_the_two_checkpoints_are_left(finished: Finished) -> None:
    assert sorted(path.name for path in finished.weights.iterdir()) == ["best.pt", "last.pt"]


@needs_node
@pytest.mark.parametrize(
    "task",
    [task if task in {"pose", "depth"} else pytest.param(task, marks=pytest.mark.long) for task in TASKS],
)
def test_every_plot_of_ultralytics_is_kept_with_its_own_caption(task: str, tmp_path: Path) -> None:
    """The plots of pose include all those of detect; those of depth include one by this project."""
    training_request, threads = (
        request(task, tmp_path, arguments=QUICK | {"plots": True}),
        set(threading.enumerate()),
    )
    train(training_request, Epochs())
    for drawing in set(threading.enumerate()) - threads:
        if not drawing.daemon:
            drawing.join()
    folder = training_request.save_dir
    drawn = {path.name for path in folder.iterdir() if path.suffix in {".jpg", ".png"}}
    kept = [name for name, _ in choose_pictures(folder)]
    assert set(kept) == drawn
    assert {"results.png", "train_batch0.jpg", "val_batch0_pred.jpg"} <= drawn
    captions = evaluate("pictures.js", f"{json.dumps(kept)}.map(module.captionOf)")
    assert len(set(captions)) == len(kept)
    assert "Predictions, validation batch 0" in captions


def test_early_stopping_leaves_a_whole_last_pt(tmp_path: Path) -> None:
    result = train(request("classify", tmp_path, epochs=9, arguments=STANDSTILL | {"patience": 2}), Epochs())
    assert (result.stop_reason, result.epoch, result.epochs) == ("early_stopping", 2, 9)
    assert load_training_state(Path(result.last.path))["epoch"] == 2
    assert not inspect_file(Path(result.best.path)).resumable


def test_a_time_budget_leaves_a_whole_last_pt(tmp_path: Path) -> None:
    result = train(request("classify", tmp_path, epochs=None, arguments=QUICK | {"time": 1e-6}), Epochs())
    assert result.stop_reason == "time_budget"
    assert load_training_state(Path(result.last.path))["epoch"] == result.epoch
    assert not inspect_file(Path(result.best.path)).resumable


def test_without_validation_no_validation_metrics_are_reported_before_the_last_epoch(tmp_path: Path) -> None:
    epochs = Epochs()
    result = train(request("classify", tmp_path, arguments=QUICK | {"val": False}), epochs)
    first, last = epochs.reports
    assert first.fitness is None
    assert {name.split("/")[0] for name in first.metrics} == {"train", "lr"}
    assert last.fitness is not None
    assert result.metrics["metrics/accuracy_top1"] is not None


def test_an_exception_in_the_reporter_ends_training_and_keeps_the_finished_epoch(tmp_path: Path) -> None:
    with pytest.raises(GivesUp.Enough):
        train(request("classify", tmp_path, epochs=5), GivesUp(after=1))
    assert load_training_state(tmp_path / "runs" / "train" / "weights" / "last.pt")["epoch"] == 0


def test_a_second_training_run_in_the_same_folder_replaces_the_first(tmp_path: Path) -> None:
    first = train(request("classify", tmp_path, epochs=3), Epochs())
    second = train(request("classify", tmp_path, epochs=1), Epochs())
    assert (first.epoch, second.epoch, second.best_epoch) == (2, 0, 0)
    assert len((tmp_path / "runs" / "train" / "results.csv").read_text().splitlines()) == 2


def test_a_run_can_start_from_the_weights_of_another_run(tmp_path: Path) -> None:
    taught = train(request("classify", tmp_path), Epochs())
    result = train(
        request(
            "classify",
            tmp_path,
            model=taught.best.path,
            save_dir=tmp_path / "tuned",
            epochs=1,
            arguments=STANDSTILL,
        ),
        Epochs(),
    )
    before, after = (_first_weights(Path(r.best.path)) for r in (taught, result))
    assert before.equal(after)


def test_weights_that_the_run_would_overwrite_are_refused_and_kept(tmp_path: Path) -> None:
    taught = train(request("classify", tmp_path, epochs=1), Epochs())
    (link := tmp_path / "link.pt").symlink_to(taught.best.path)
    again = request("classify", tmp_path, model=taught.best.path)
    for wanted, name in (
        (again, "model"),
        (replace(again, model=str(link)), "model"),
        (request("classify", tmp_path, arguments={**QUICK, "pretrained": taught.last.path}), "pretrained"),
    ):
        with pytest.raises(TrainingError, match=rf"^{name}=.* would be replaced .*; give another save_dir"):
            train(wanted, Epochs())
    assert Path(taught.best.path).exists()
    assert Path(taught.last.path).exists()


def _first_weights(path: Path) -> Any:
    return next(load_checkpoint(path)["model"].parameters())


@pytest.mark.parametrize("device", ["0", "3", "cuda:7", "mps", "gpu", "0,1", "-1"])
def test_a_missing_device_is_refused(device: str, tmp_path: Path) -> None:
    with pytest.raises(DeviceNotAvailable, match=rf"device={device} is not available: .*; use "):
        train(request("classify", tmp_path, device=device), Epochs())
    assert not (tmp_path / "runs").exists()


def test_without_a_gpu_the_cpu_is_used_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = train(request("classify", tmp_path, epochs=1, device=None), Epochs())
    assert result.device == "cpu"
    assert "training on the CPU" in caplog.text


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"model": "yolo11n"}, "model=yolo11n is a model for detect, but task=classify"),
        ({"model": "yolo99n-cls"}, "neither a file on this machine nor an architecture"),
        ({"model": "yolo11n-cls.pt"}, "yolo11n-cls.pt does not exist"),
        ({"model": "https://example.com/yolo11n-cls.pt"}, "does not exist"),
        ({"task": "segmentation"}, "task='segmentation' is unknown"),
        ({"arguments": {"mosiac": 1.0}}, "did you mean mosaic"),
        ({"arguments": {"lr0": 3}}, "lr0=3 is refused"),
        ({"arguments": {"pretrained": "elsewhere.pt"}}, "pretrained=elsewhere.pt cannot be used"),
        ({"data": Path("/nowhere")}, "data=/nowhere is not a dataset for classify"),
        ({"arguments": QUICK | {"optimizer": "SGD", "scale": "0.5"}}, "scale='0.5' is refused"),
    ],
)
def test_an_impossible_request_is_refused_with_a_reason(
    given: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=sentence):
        train(request("classify", tmp_path, **given), Epochs())


def test_weights_of_another_task_are_refused(tmp_path: Path) -> None:
    taught = train(request("classify", tmp_path, epochs=1), Epochs())
    with pytest.raises(TrainingError, match="is a model for classify, but task=detect"):
        train(request("detect", tmp_path, model=taught.best.path), Epochs())


@pytest.mark.parametrize(
    ("task", "spoil", "sentence"),
    [
        ("detect", "images/val", "images not found"),
        ("pose", "kpt_shape", "kpt_shape"),
        ("detect", "names", "'names' or 'nc' are required"),
        ("detect", "images/train/*", "No images found|No valid images|Error loading data"),
    ],
)
def test_broken_data_is_refused_with_a_reason(task: str, spoil: str, sentence: str, tmp_path: Path) -> None:
    data = build(task, tmp_path / f"{task}-data")
    if "/" in spoil:
        for path in sorted(data.parent.glob(spoil)):
            path.rename(path.with_name(f"{path.name}.gone"))
    else:
        data.write_text(data.read_text().replace(f"{spoil}:", f"no_{spoil}:"))
    with pytest.raises(TrainingError, match=rf"data=.*data.yaml cannot be trained on: .*({sentence})"):
        train(request(task, tmp_path), Epochs())


def test_mixed_precision_is_decided_without_downloading_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ultralytics.utils.checks import check_amp
    from ultralytics.utils.downloads import attempt_download_asset

    tame_ultralytics()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConnectionError, match="training downloads nothing"):
        attempt_download_asset("yolo26n.pt")
    # The device "meta" is neither a CPU nor a GPU with known AMP errors.
    assert check_amp(torch.nn.Linear(1, 1, device="meta"))
    assert not list(tmp_path.iterdir())


def test_a_script_in_the_data_yaml_is_never_run(tmp_path: Path) -> None:
    data = build("detect", tmp_path / "detect-data")
    planted = tmp_path / "planted"
    data.write_text(
        data.read_text().replace("images/val", "images/none") + f"download: open({str(planted)!r}, 'w')\n"
    )
    with pytest.raises(TrainingError, match="images not found"):
        train(request("detect", tmp_path), Epochs())
    assert not planted.exists()
