"""Label caches: a cache beside a dataset never runs code, and scanned labels are not scanned again."""

from __future__ import annotations

import os
import pickle
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ultralytics.utils import USER_CONFIG_DIR

from include.training.contract import DiskError, EpochReport, TrainingError
from include.training.evaluate import evaluate
from include.training.label_caches import load_label_cache, save_label_cache
from include.training.quiet import tame_ultralytics
from include.training.run import build_trainer, train
from tests.support.tiny_models import architecture
from tests.support.tiny_trainings import QUICK, Epochs, request, train_with
from tests.support.untrained import best


class Payload:
    """An object that writes a file when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self._proof = proof

    def __reduce__(self) -> Any:
        return Path.touch, (self._proof,)


def plant(cache: Path, proof: Path) -> None:
    """Write a cache in Ultralytics' format at this path, with a payload in it."""
    with cache.open("wb") as file:
        np.save(file, {"version": "1.0.3", "hash": Payload(proof)})  # type: ignore[arg-type]


def caches(data: Path) -> list[Path]:
    """Return the paths at which Ultralytics looks for the caches of a dataset."""
    folder = data if data.is_dir() else data.parent / "labels"
    return [folder / "train.cache", folder / "val.cache"]


def test_the_payload_of_these_tests_runs_when_it_is_unpickled(tmp_path: Path) -> None:
    plant(tmp_path / "train.cache", tmp_path / "proof")
    np.load(tmp_path / "train.cache", allow_pickle=True)
    assert (tmp_path / "proof").exists()


@pytest.mark.parametrize("task", ["detect", "classify"])
def test_training_does_not_run_code_from_a_cache_beside_the_data(task: str, tmp_path: Path) -> None:
    training_request = request(task, tmp_path, model=architecture(tmp_path, task), epochs=1)
    for cache in caches(training_request.data):
        plant(cache, tmp_path / "proof")
    train(training_request, Epochs())
    assert not (tmp_path / "proof").exists()
    assert [load_label_cache(cache)["version"] for cache in caches(training_request.data)]


def test_evaluation_does_not_run_code_from_a_cache_beside_the_data(tmp_path: Path) -> None:
    data = request("detect", tmp_path).data
    weights = best("detect", tmp_path / "best.pt", architecture=architecture(tmp_path))
    for cache in caches(data):
        plant(cache, tmp_path / "proof")
    evaluate(weights, data, "detect", imgsz=64, device="cpu")
    assert not (tmp_path / "proof").exists()


def test_a_later_training_run_reuses_the_scanned_labels(tmp_path: Path) -> None:
    training_request = request("detect", tmp_path, model=architecture(tmp_path), epochs=1)
    train(training_request, Epochs())
    scanned = [cache.stat().st_ino for cache in caches(training_request.data)]
    train(training_request, Epochs())
    assert [cache.stat().st_ino for cache in caches(training_request.data)] == scanned


def break_image(image: Path) -> Path:
    """Replace the image by a file that fails to read with EIO, as on a broken share; return the image."""
    kept = image.rename(image.with_name(f"{image.name}.kept"))
    image.symlink_to("/proc/self/mem")
    return kept


def break_label(label: Path) -> None:
    """Replace the label file by a link like those of a view, to a share that fails."""
    label.unlink()
    label.symlink_to("/gone/label")


@pytest.mark.parametrize("task", ["detect", "semantic", "depth", "classify"])
def test_training_does_not_start_without_an_image_that_cannot_be_read(task: str, tmp_path: Path) -> None:
    training_request = request(task, tmp_path, epochs=1)
    folder = training_request.data if task == "classify" else training_request.data.parent / "images"
    images = sorted((folder / "train").rglob("*.png"))
    kept = break_image(images[1])
    with pytest.raises(DiskError, match=rf"1 of {len(images)} images of train, .* is {images[1]}, could not"):
        train(training_request, Epochs())
    kept.replace(images[1])
    with build_trainer(training_request, Epochs()) as trainer:
        trainer.train()
        assert len(trainer.train_loader.dataset) == len(images)


@pytest.mark.parametrize("task", ["detect", "semantic", "depth"])
def test_training_does_not_start_without_labels_that_are_gone_after_the_check(
    task: str, tmp_path: Path
) -> None:
    training_request = request(task, tmp_path, epochs=1)
    folder = {"detect": "labels", "semantic": "masks", "depth": "depth"}[task]
    labels = sorted(path for path in (training_request.data.parent / folder / "train").iterdir())
    break_label(labels[1])
    with pytest.raises(DiskError, match=rf"1 of {len(labels)} images of train, .* is .*/1\.png, could not"):
        train(training_request, Epochs())
    for label in labels[2:]:
        break_label(label)
    labels[0].unlink()  # like an image that never had labels
    with pytest.raises(DiskError, match="could not be read"):
        train(training_request, Epochs())


def test_an_error_about_a_split_without_any_readable_label_quotes_no_file(tmp_path: Path) -> None:
    training_request = request("detect", tmp_path, epochs=1)
    for label in (training_request.data.parent / "labels" / "train").iterdir():
        label.write_text("a secret of another file")
    with pytest.raises(DiskError, match=r"All images of a split of .* could not be read") as raised:
        train(training_request, Epochs())
    assert "secret" not in "".join(traceback.format_exception(raised.value))


def test_a_stored_scan_of_an_earlier_release_which_may_lack_images_is_not_used(tmp_path: Path) -> None:
    training_request = request("detect", tmp_path, epochs=1)
    train(training_request, Epochs())
    cache = caches(training_request.data)[0]
    scan = load_label_cache(cache)
    del scan["labels"][0], scan["complete"]
    save_label_cache("", cache, scan, scan["version"])
    train(training_request, Epochs())
    assert len(load_label_cache(cache)["labels"]) == scan["results"][-1]


def test_a_cache_holds_every_number_as_it_was(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label = {
        "im_file": "ü.png",
        "shape": [3, 4],
        "cls": rng.random((2, 1), dtype=np.float32),
        "segments": [rng.random((5, 2), dtype=np.float32), np.zeros((0, 2), np.float32)],
        "keypoints": None,
        "normalized": True,
    }
    save_label_cache("", tmp_path / "train.cache", {"labels": [label], "hash": "h"}, "1.0")
    loaded = load_label_cache(tmp_path / "train.cache")
    assert (loaded["version"], loaded["hash"]) == ("1.0", "h")
    np.testing.assert_equal(loaded["labels"], [label])
    assert loaded["labels"][0]["cls"].dtype == np.float32
    assert loaded["labels"][0]["cls"].flags.writeable


def test_a_cache_cannot_contain_memory_addresses_as_object_arrays(tmp_path: Path) -> None:
    cache = tmp_path / "train.cache"
    cache.write_text('{"labels": {"dtype": "|O", "shape": [1], "bytes": "QUFBQUFBQUE="}}')
    with pytest.raises(ValueError, match="OBJECT"):
        load_label_cache(cache)


def test_a_cache_that_every_account_can_write_to_is_ignored(tmp_path: Path) -> None:
    cache = tmp_path / "train.cache"
    save_label_cache("", cache, {}, "1.0")
    cache.chmod(0o646)
    with pytest.raises(PermissionError, match="another account"):
        load_label_cache(cache)


def test_a_symbolic_link_instead_of_a_cache_is_neither_read_nor_written_through(tmp_path: Path) -> None:
    cache, other = tmp_path / "train.cache", tmp_path / "other"
    other.write_text("{}")
    cache.symlink_to(other)
    with pytest.raises(OSError, match="symbolic link"):
        load_label_cache(cache)
    save_label_cache("", cache, {}, "1.0")
    assert other.read_text() == "{}"
    assert not cache.is_symlink()


def test_a_file_that_is_not_a_cache_is_ignored(tmp_path: Path) -> None:
    cache = tmp_path / "train.cache"
    cache.write_bytes(pickle.dumps({}))
    with pytest.raises(ValueError, match=r"codec|Expecting"):
        load_label_cache(cache)
    cache.unlink()
    os.mkfifo(cache)
    with pytest.raises(ValueError, match="Expecting"):
        load_label_cache(cache)


def test_compiled_code_is_not_loaded_from_a_shared_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor.runtime.cache_dir_utils import cache_dir  # here, because it takes seconds

    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    tame_ultralytics.__wrapped__()
    assert cache_dir() == str(USER_CONFIG_DIR / "torchinductor")


def test_training_refuses_a_folder_that_every_account_can_write_to(tmp_path: Path) -> None:
    training_request = request("detect", tmp_path, save_dir=tmp_path / "open")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(TrainingError, match=r"Every account .* give another save_dir"):
        train(replace(training_request, model="yolo11n"), Epochs())


class BreaksAfter(Epochs):
    """Records the epochs; after the first one, replaces these files by links to a share that fails."""

    def __init__(self, files: list[Path]) -> None:
        super().__init__()
        self._files = files

    def report(self, epoch: EpochReport) -> bool:
        while self._files:
            break_label(self._files.pop())
        return super().report(epoch)


@pytest.mark.parametrize(
    ("task", "folder", "workers"),
    [("detect", "images", 0), ("detect", "images", 1), ("depth", "depth", 1), ("classify", ".", 1)],
)
def test_a_share_that_fails_during_training_ends_only_the_attempt(
    task: str, folder: str, workers: int, tmp_path: Path
) -> None:
    training_request = request(task, tmp_path, epochs=20)
    root = training_request.data if task == "classify" else training_request.data.parent
    reporter = BreaksAfter([path for path in (root / folder / "train").rglob("*.*") if path.is_file()])
    with pytest.raises(DiskError, match="could not be read, although they passed the check"):
        train_with(workers, training_request, reporter)
    assert reporter.reports


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_a_share_that_fails_while_images_are_cached_ends_only_the_attempt(cache: str, tmp_path: Path) -> None:
    training_request = request("detect", tmp_path, epochs=1)
    train(training_request, Epochs())
    image = min((training_request.data.parent / "images" / "train").iterdir())
    before = image.stat()
    image.write_bytes(bytes(before.st_size))
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))  # so the stored scan is used
    with pytest.raises(DiskError, match="could not be read, although they passed the check"):
        train(replace(training_request, arguments=QUICK | {"cache": cache}), Epochs())
