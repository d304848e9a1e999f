"""The training loader decodes an image about once per epoch; which worker does so does not affect samples."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.pace import training_loader
from include.training import recent
from include.training.recent import RecentImages, Slot
from include.training.resumable_loader import seed_samples
from tests.support.tiny_datasets import build

IMAGES, BATCH, EPOCHS = 131, 1, 2
"""Enough images that a mosaic takes them from many batches, and that not all images stay in memory."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("detect", tmp_path_factory.mktemp("data"), train=IMAGES, val=4)


@pytest.fixture(autouse=True)
def sixteen_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that there are 16 processors: Ultralytics starts at most as many workers as processors."""
    monkeypatch.setattr(os, "cpu_count", lambda: 16)


def epochs(data: Path, folder: Path, workers: int) -> tuple[str, float]:
    """Return a hash of the loader's samples, and the number of images that it decodes per sample."""
    digest, samples = hashlib.sha256(), 0
    with training_loader("ours", data, folder, workers, imgsz=64, batch=BATCH) as (loader, decoded):
        assert (loader.num_workers, loader.dataset.lanes, loader.dataset.all_fit) == (workers, 8, False)
        for _ in range(EPOCHS):
            for batch in loader:
                digest.update(batch["img"].numpy().tobytes() + batch["bboxes"].numpy().tobytes())
                samples += len(batch["im_file"])
        return digest.hexdigest(), decoded.value / samples


def test_an_image_is_decoded_about_once_with_any_number_of_workers(data: Path, tmp_path: Path) -> None:
    found = {workers: epochs(data, tmp_path, workers) for workers in (3, 12)}
    assert len({digest for digest, _ in found.values()}) == 1
    assert {workers: decoded for workers, (_, decoded) in found.items() if decoded > 1.5} == {}


def test_images_replaced_while_a_sample_is_made_from_them_do_not_change_the_sample(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = epochs(data, tmp_path, 3)
    monkeypatch.setattr(recent, "MOST_IMAGES", BATCH)  # so that every batch replaces the previous one
    assert epochs(data, tmp_path, 3)[0] == whole


def test_a_sample_that_a_second_gpu_repeats_has_its_own_pixels(data: Path, tmp_path: Path) -> None:
    """With an odd number of images, the second of two GPUs ends its epoch with the first sample."""

    def load(numbers: list[int]) -> np.ndarray:
        with training_loader("plain", data, tmp_path, workers=0, imgsz=64, batch=16) as (loader, _):
            order = seed_samples(loader, seed=0, rank=1, replicas=2, on_gpu=False)
            assert not loader.dataset.all_fit
            samples = [loader.dataset[number]["img"] for number in numbers or order]
        pixels: np.ndarray = samples[-1].numpy()
        return pixels

    assert np.array_equal(load([]), load([0]))


def test_a_reader_notices_that_its_image_was_replaced() -> None:
    images = RecentImages(batches=1, batch_size=2, side=4, channels=3)
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    images.put(Slot(0, 1), (pixels, (20, 40), (2, 4)))
    taken = images.get(Slot(0, 1))
    assert taken is not None
    assert np.array_equal(taken[0], pixels)
    assert taken[1:] == ((20, 40), (2, 4))
    assert images.is_unchanged()
    images.put(Slot(1, 1), (pixels, (20, 40), (2, 4)))
    assert not images.is_unchanged()
    assert images.get(Slot(0, 1)) is None
    images.start_sample()
    assert images.is_unchanged()


@pytest.mark.parametrize(("ranks", "fitting"), [(None, 8), ("2", 4), ("4", 2)])
def test_the_ranks_share_a_quarter_of_the_memory(
    monkeypatch: pytest.MonkeyPatch, ranks: str | None, fitting: int
) -> None:
    monkeypatch.setattr(recent, "read_memory_limit", lambda: 4 * 8 * 48)
    if ranks is None:
        monkeypatch.delenv("WORLD_SIZE", raising=False)
    else:
        monkeypatch.setenv("WORLD_SIZE", ranks)
    images = RecentImages(batches=100, batch_size=1, side=4, channels=3)
    for batch in range(8):
        images.put(Slot(batch, 0), (np.zeros((4, 4, 3), np.uint8), (4, 4), (4, 4)))
    assert [batch for batch in range(8) if images.get(Slot(batch, 0))] == list(range(8 - fitting, 8))


def test_an_image_that_was_replaced_and_stored_again_counts_as_replaced() -> None:
    images = RecentImages(batches=1, batch_size=1, side=4, channels=3)
    pixels = np.zeros((4, 4, 3), np.uint8)
    for batch in (0, 1, 0):
        if batch:
            assert images.get(Slot(0, 0)) is not None
        images.put(Slot(batch, 0), (pixels, (4, 4), (4, 4)))
    assert images.get(Slot(0, 0)) is not None
    assert not images.is_unchanged()


def test_two_workers_that_write_to_the_same_slot_never_mix_their_images() -> None:
    """If memory is short, two recent batches share a slot."""
    images = RecentImages(batches=1, batch_size=1, side=256, channels=3)

    def write(batch: int) -> None:
        pixels = np.full((256, 256, 3), batch, np.uint8)
        while not enough.is_set():
            images.put(Slot(batch, 0), (pixels, (256, 256), (256, 256)))

    fork = multiprocessing.get_context("fork")
    enough = fork.Event()
    writers = [fork.Process(target=write, args=(batch,), daemon=True) for batch in (1, 2)]
    for writer in writers:
        writer.start()
    mixed = read = 0
    while read < 100 and all(writer.is_alive() for writer in writers):
        for batch in (1, 2):
            images.start_sample()
            found = images.get(Slot(batch, 0))
            if found is not None:
                copied = found[0].copy()
                if images.is_unchanged():
                    read += 1
                    mixed += bool((copied != batch).any())
    enough.set()
    for writer in writers:
        writer.join()
    assert read >= 100
    assert mixed == 0
