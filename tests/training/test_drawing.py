"""A picture that cannot be drawn does not end a training run whose model is finished."""

from __future__ import annotations

from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import pytest
import yaml
from matplotlib.figure import Figure

from include.training.drawing import draw_texts_as_they_are
from include.training.run import build_trainer, train
from tests.support.tiny_trainings import QUICK, Epochs, request


def test_class_names_with_dollar_signs_are_drawn_as_they_are(tmp_path: Path) -> None:
    """Matplotlib takes what is between two dollar signs for a formula, and $$ is not a valid one."""
    figure = Figure()
    with mpl.rc_context():
        draw_texts_as_they_are()
        figure.text(0, 0, "$$")
        figure.savefig(tmp_path / "names.png")


@pytest.mark.long
def test_a_training_run_draws_class_names_with_dollar_signs(tmp_path: Path) -> None:
    wanted = request("detect", tmp_path, epochs=1, arguments=QUICK | {"plots": True})
    description = yaml.safe_load(wanted.data.read_text())
    wanted.data.write_text(yaml.safe_dump(description | {"names": ["$", "$$"]}))
    assert train(wanted, Epochs()).stop_reason == "completed"
    assert (wanted.save_dir / "BoxPR_curve.png").exists()


def test_curves_that_cannot_be_drawn_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with build_trainer(request("classify", tmp_path), Epochs()) as trainer:
        trainer.plot_metrics()
    assert "The curves of the training run could not be drawn: No results.csv files found" in caplog.text


@pytest.mark.long
def test_labels_that_cannot_be_drawn_are_reported_and_training_is_completed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ultralytics cannot draw a histogram of distances that are all the same."""
    wanted = request("depth", tmp_path, epochs=1, arguments=QUICK | {"plots": True})
    for path in (wanted.data.parent / "depth").rglob("*.png"):
        cv2.imwrite(str(path), np.full((64, 64), 4000, np.uint16))
    assert train(wanted, Epochs()).stop_reason == "completed"
    assert "The distribution of the labels could not be drawn: Too many bins for data range" in caplog.text
