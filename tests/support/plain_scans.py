"""Ultralytics' scans of datasets as they are without this project, to compare with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from include.training.label_caches import load_label_cache, save_label_cache


@contextmanager
def plain_scans() -> Iterator[None]:
    """Let Ultralytics skip images that it cannot use.

    A training run in the same process makes it refuse datasets with such images from then on.
    """
    from ultralytics.data import dataset, utils

    with pytest.MonkeyPatch.context() as patch:
        for module in (utils, dataset):
            patch.setattr(module, "load_dataset_cache_file", load_label_cache)
            patch.setattr(module, "save_dataset_cache_file", save_label_cache)
        patch.setattr(dataset, "verify_image_label", utils.verify_image_label)
        yield
