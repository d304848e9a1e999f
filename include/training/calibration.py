"""The scale of a depth model's distances, fitted to the validation images after a training run."""

from __future__ import annotations

import logging
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ultralytics.models.yolo.depth.calibrate import (
    _depth_head,
    _plot_calibrated_batches,
    fit_calibration_selective,
)

from include.training.loading import load_checkpoint
from include.training.saving import save

if TYPE_CHECKING:
    import torch
    from torch.utils.data import DataLoader

log = logging.getLogger(__name__)

CALIBRATION = "depth_calibration"
"""Ultralytics' key for how a checkpoint was calibrated."""

_FARTHEST = 100.0
"""Ultralytics' default for the data YAML's max_depth, in metres."""


def calibrate_depth(
    best: Path,
    loader: DataLoader[Any],
    device: torch.device,
    max_depth: float | None,
    pictures: Path | None,
) -> None:
    """Calibrate the distances of the model in the stripped `best` on up to 200 images, if that helps.

    This replaces Ultralytics' `calibrate_checkpoint` (8.4.190), which loads the file unsafely, writes it in
    place, and also changes last.pt: a training run that continues from a changed last.pt would differ from
    one that was never interrupted. `max_depth` is in metres; `pictures` is a folder for images of the result.

    A file that is already calibrated stays as it is. Such a file comes from an attempt that was killed just
    after the calibration, or from a parent job whose best epoch is still the best.
    """
    state = load_checkpoint(best)
    if state.get(CALIBRATION):
        return
    model = deepcopy(state["model"]).float()
    fitted = fit_calibration_selective(model, loader, device, max_depth=max_depth or _FARTHEST)
    if fitted is None:  # fewer than two images have a known distance
        return
    head = _depth_head(state["model"])
    head.cal_a.fill_(fitted["a"])
    head.cal_b.fill_(fitted["b"])
    scale, offset = float(head.cal_a), float(head.cal_b)  # rounded to the model's precision
    state[CALIBRATION] = {
        "status": "selected",
        "candidate": fitted["name"],
        "images": fitted["images"],
        "a": scale,
        "b": offset,
        "strategy": "two-fold-held-out-delta1",
        "scores": fitted["cv_scores"],
    }
    save(state, best)
    log.info("The distances of %s are calibrated: %s, a=%.4f, b=%.4f.", best, fitted["name"], scale, offset)
    if pictures is not None:
        _plot_calibrated_batches(model, loader, device, scale, offset, fitted["name"], pictures)
