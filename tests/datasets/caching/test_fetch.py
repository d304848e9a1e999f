"""Only the files that were checked reach Ultralytics on the training machine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from PIL import Image

from include.datasets.caching import fetch
from include.datasets.errors import DatasetChanged, DatasetError
from include.datasets.s3 import S3ObjectReader
from tests.support.dataset_steps import (
    check_dataset,
    check_here,
    describe,
    materialize,
    snapshot,
    upload_files,
)
from tests.support.tiny_datasets import MAPS, TASKS, build

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.ultralytics_tasks import Task


@pytest.mark.parametrize("task", TASKS)
def test_ultralytics_reads_every_materialized_file(task: Task, folder: Path, cache: Path) -> None:
    from ultralytics.cfg import get_cfg
    from ultralytics.data.build import build_yolo_dataset
    from ultralytics.data.dataset import ClassificationDataset
    from ultralytics.data.utils import check_cls_dataset, check_det_dataset

    reference = check_here(build(task, folder), task, cache)
    before = snapshot(folder)
    local = materialize(reference, cache, None)
    if task == "classify":
        data = check_cls_dataset(local.data)
        samples = ClassificationDataset(
            data["train"], get_cfg(overrides={"imgsz": 64}), augment=False
        ).samples
        assert (len(samples), data["names"]) == (8, reference.classes)
    else:
        data = check_det_dataset(str(local.data))
        arguments = get_cfg(overrides={"imgsz": 64, "task": task})
        labels = build_yolo_dataset(arguments, data["train"], 4, data, mode="val").labels
        assert (len(labels), data["names"]) == (8, reference.classes)
        assert task in MAPS or all(len(label["cls"]) for label in labels)
    assert snapshot(folder) == before, "Ultralytics' caches belong in our cache, not in the user's folder"


def test_a_download_key_is_never_run(folder: Path, cache: Path, tmp_path: Path) -> None:
    build("detect", folder)
    trace = tmp_path / "trace"
    data = describe(folder, download=f"open({str(trace)!r}, 'w')")
    local = materialize(check_here(data, "detect", cache), cache, None)
    assert "download" not in yaml.safe_load(local.data.read_text())
    assert not trace.exists()


def test_a_jpeg_with_trailing_bytes_is_accepted_and_unchanged(folder: Path, cache: Path) -> None:
    from ultralytics.data.dataset import YOLODataset

    data = build("detect", folder)
    photo = folder / "images" / "train" / "photo.jpg"
    Image.new("RGB", (64, 64)).save(photo)
    photo.write_bytes(photo.read_bytes() + b"SEFT: appended by a telephone")
    before = snapshot(folder)
    reference = check_here(data, "detect", cache)
    view = materialize(reference, cache, None).data.parent
    # Ultralytics rewrites such a file in place.
    YOLODataset(img_path=str(view / "images" / "train"), data={"names": {0: "box", 1: "arrow"}}, imgsz=64)
    assert not (view / "images" / "train" / "photo.jpg").is_symlink()
    assert snapshot(folder) == before
    materialize(reference, cache, None)


def test_a_fetched_file_stays_unchanged_when_ultralytics_rewrites_it_in_a_view(
    folder: Path, cache: Path, bucket: str, s3_client: S3Client
) -> None:
    """A view consists of links to fetched files, which all versions of a dataset share."""
    from ultralytics.data.dataset import YOLODataset

    build("detect", folder)
    photo = folder / "images" / "train" / "photo.jpg"
    Image.new("RGB", (64, 64)).save(photo)
    photo.write_bytes(photo.read_bytes() + b"SEFT: appended by a telephone")
    upload_files(s3_client, bucket, folder, "set/")
    reader = S3ObjectReader(s3_client)
    reference = check_dataset(f"s3://{bucket}/set/", "detect", cache, reader)
    view = materialize(reference, cache, reader).data.parent / "images" / "train"
    fetched = cache / reference.fingerprint / "content" / "images" / "train" / "photo.jpg"
    assert (view / "photo.jpg").samefile(fetched)
    YOLODataset(img_path=str(view), data={"names": {0: "box", 1: "arrow"}}, imgsz=64)
    assert not (view / "photo.jpg").samefile(fetched)
    assert fetched.read_bytes() == photo.read_bytes()


def test_the_same_files_in_another_folder_are_the_same_content(
    folder: Path, cache: Path, tmp_path: Path
) -> None:
    build("detect", folder)
    describe(folder, path=None)
    copy = shutil.copytree(folder, tmp_path / "copy")
    first, second = (check_here(place, "detect", cache) for place in (folder, copy))
    assert first.fingerprint == second.fingerprint
    views = [materialize(reference, cache, None).data for reference in (first, second)]
    shutil.rmtree(folder)
    image = next((views[1].parent / "images" / "train").iterdir())
    assert image.resolve().is_file(), "each path has its own view"


def test_a_view_links_to_the_new_paths_of_files_that_were_moved(folder: Path, cache: Path) -> None:
    build("detect", folder)
    before = check_here(describe(folder, path=None), "detect", cache)
    materialize(before, cache, None)
    for kind in ("images", "labels"):
        (folder / "train").mkdir(exist_ok=True)
        (folder / kind / "train").rename(folder / "train" / kind)
    after = check_here(describe(folder, train="train/images"), "detect", cache)
    assert after.fingerprint == before.fingerprint
    view = materialize(after, cache, None).data.parent
    assert all(path.exists() for path in (*view.glob("images/*/*"), *view.glob("labels/*/*")))


def test_files_that_were_only_touched_count_as_unchanged(folder: Path, cache: Path) -> None:
    reference = check_here(build("detect", folder), "detect", cache)
    os.utime(folder / "labels" / "train" / "0.txt", (1, 1))
    materialize(reference, cache, None)


@pytest.mark.parametrize("keep_times", [False, True])
def test_content_that_changed_after_the_check_is_not_trained_on(
    keep_times: bool, folder: Path, cache: Path
) -> None:
    reference = check_here(build("detect", folder), "detect", cache)
    label = folder / "labels" / "train" / "0.txt"
    times = label.stat().st_atime_ns, label.stat().st_mtime_ns
    label.write_text(label.read_text().replace("5", "6", 1))
    if keep_times:
        os.utime(label, ns=times)
    with pytest.raises(DatasetChanged, match="has changed since check_dataset checked it"):
        materialize(reference, cache, None)


def test_files_that_change_while_a_training_run_uses_them_are_noticed(folder: Path, cache: Path) -> None:
    reference = check_here(build("detect", folder), "detect", cache)
    local = materialize(reference, cache, None)
    label = folder / "labels" / "train" / "0.txt"
    content = label.read_text()
    assert local.is_unchanged()
    os.utime(label, (1, 1))
    assert local.is_unchanged()
    label.write_text(content.replace("5", "6", 1))
    assert not local.is_unchanged()
    label.write_text(content)
    assert local.is_unchanged()
    label.unlink()
    assert not local.is_unchanged()


def test_a_path_that_is_missing_on_the_training_machine_is_named(folder: Path, cache: Path) -> None:
    reference = check_here(build("detect", folder), "detect", cache)
    shutil.rmtree(folder)
    with pytest.raises(DatasetError, match="mount it, or upload the data to S3"):
        materialize(reference, cache, None)


def test_only_checked_files_reach_ultralytics(folder: Path, cache: Path) -> None:
    data = build("detect", folder)
    (folder / "labels" / "train.cache").write_bytes(b"a pickle that runs what it likes")
    (folder / "images" / "train" / "0.npy").write_bytes(b"another picture")
    view = materialize(check_here(data, "detect", cache), cache, None).data.parent
    assert {path.suffix for path in view.rglob("*") if path.is_file()} == {".png", ".txt", ".yaml"}


@pytest.mark.parametrize("task", ["classify", "detect"])
def test_several_processes_make_the_same_links_as_one(
    task: Task, folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = check_here(build(task, folder), task, cache)
    linked = _links(materialize(reference, cache, None).data)
    monkeypatch.setattr(fetch, "MANY", 1)
    assert _links(materialize(reference, tmp_path / "another cache", None).data) == linked
    assert len(linked) >= reference.train_images + reference.val_images


def _links(data: Path) -> dict[str, Path]:
    view = data if data.is_dir() else data.parent
    return {str(path.relative_to(view)): path.readlink() for path in view.rglob("*") if path.is_symlink()}
