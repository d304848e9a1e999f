"""A temporary fault of a network file system or a busy machine does not make a dataset invalid."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from include.datasets.checking.checked_sample import check_map
from include.datasets.checking.depths import DepthRules, open_depths
from include.datasets.conversion.coco import convert_coco
from include.datasets.conversion.coco_file import read_coco_file
from include.datasets.conversion.files import ConvertedFiles
from include.datasets.conversion.ndjson import convert_ndjson
from include.datasets.conversion.problems import Problems
from include.datasets.disk import is_file, is_passing
from include.datasets.fingerprint import compute_content_fingerprint
from include.datasets.layouts.boundary import DatasetRoots
from include.datasets.layouts.description import read_description
from include.datasets.layouts.layout import read_layout
from include.datasets.layouts.samples import DatasetLocation
from include.datasets.sources import LocalPath, find_local
from tests.support.coco_datasets import build_coco
from tests.support.dataset_steps import check_dataset, describe, materialize
from tests.support.ndjson_exports import export, write
from tests.support.soft_limit import soft_limit
from tests.support.tiny_datasets import build

SOURCE = "mine"

_MNT_DETACH = 2  # of umount2(2)


@pytest.fixture
def break_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Return a function that makes a system call fail for every file with a given name."""

    def break_call(call: str, name: str) -> None:
        works = getattr(os, call)

        def fail(path: Any, *arguments: Any, **options: Any) -> Any:
            if isinstance(path, str | Path) and Path(path).name == name:
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
            return works(path, *arguments, **options)

        monkeypatch.setattr(os, call, fail)

    return break_call


@pytest.fixture
def dead_mount(tmp_path: Path) -> Iterator[Path]:
    """Mount a FUSE file system whose daemon is gone, as s3fs or gcsfuse would leave it."""
    system, folder = ctypes.CDLL(None, use_errno=True), tmp_path / "mount"
    folder.mkdir()
    try:
        daemon = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"FUSE cannot be used here: {error}")
    options = f"fd={daemon},rootmode=40000,user_id=0,group_id=0".encode()
    refused = system.mount(b"dead", bytes(folder), b"fuse", 0, options)
    os.close(daemon)
    if refused:
        pytest.skip(f"nothing can be mounted here: {os.strerror(ctypes.get_errno())}")
    yield folder
    system.umount2(bytes(folder), _MNT_DETACH)


def read_content(folder: Path) -> Callable[[], object]:
    build("detect", folder)
    layout = read_layout(DatasetLocation(folder, SOURCE, folder), "detect")
    return lambda: compute_content_fingerprint(layout, SOURCE)


def read_data_yaml(folder: Path) -> Callable[[], object]:
    file = build("detect", folder)
    return lambda: read_description(file, "detect", SOURCE, "val")


def read_depths(folder: Path) -> Callable[[], object]:
    np.save(folder / "map.npy", np.ones((8, 8), np.float32))
    return lambda: open_depths(folder / "map.npy", ".npy")


def read_map(folder: Path) -> Callable[[], object]:
    np.save(folder / "map.npy", np.ones((8, 8), np.float32))
    return lambda: check_map(folder / "map.npy", ".npy", DepthRules(1, 10), (8, 8))


def read_coco(folder: Path) -> Callable[[], object]:
    file = build_coco(folder) / "annotations" / "instances_train2017.json"
    return lambda: read_coco_file(file, file.name, Problems(SOURCE, "annotations"))


def read_export(folder: Path) -> Callable[[], object]:
    file = write(folder / "mine.ndjson", export("detect"))
    ConvertedFiles(folder / "work").dataset.mkdir(parents=True)
    return lambda: convert_ndjson(str(file), SOURCE, "detect", str(folder / "work"))


@pytest.mark.parametrize(
    "prepare", [read_content, read_data_yaml, read_depths, read_map, read_coco, read_export]
)
def test_too_many_open_files_are_not_blamed_on_the_data(
    prepare: Callable[[Path], Callable[[], object]], tmp_path: Path
) -> None:
    read = prepare(tmp_path)
    read()
    with pytest.raises(OSError, match="Too many open files"), soft_limit(resource.RLIMIT_NOFILE, 3):
        read()


def test_a_disk_error_does_not_make_a_list_of_images_invalid(
    tmp_path: Path, break_disk: Callable[[str, str], None]
) -> None:
    describe(build("detect", tmp_path).parent, train="train.txt")
    (tmp_path / "train.txt").write_text("./images/train/0.png\n")
    break_disk("open", "train.txt")
    with pytest.raises(OSError, match="Input/output error"):
        read_layout(DatasetLocation(tmp_path, SOURCE, tmp_path), "detect")


@pytest.mark.parametrize("name", ["instances_train2017.json", "train2017-0.png"])
def test_a_disk_error_does_not_make_annotations_invalid(
    name: str, tmp_path: Path, break_disk: Callable[[str, str], None]
) -> None:
    folder, work = build_coco(tmp_path / "data"), tmp_path / "work"
    ConvertedFiles(work).dataset.mkdir(parents=True)
    break_disk("lstat", name)
    with pytest.raises(OSError, match="Input/output error"):
        convert_coco(str(folder), SOURCE, None, None, "detect", str(work))


def test_a_disk_error_does_not_hide_a_folder_of_annotations(
    tmp_path: Path, break_disk: Callable[[str, str], None]
) -> None:
    folder = build_coco(tmp_path / "data")
    break_disk("scandir", "train2017")
    with pytest.raises(OSError, match="Input/output error"):
        convert_coco(str(folder), SOURCE, None, None, "detect", str(tmp_path / "work"))


def test_a_disk_error_does_not_make_a_path_missing(
    tmp_path: Path, break_disk: Callable[[str, str], None]
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    break_disk("stat", "data")
    with pytest.raises(OSError, match="Input/output error"):
        find_local(LocalPath(folder), str(folder), DatasetRoots((tmp_path,)))


def test_a_mount_without_its_daemon_is_not_blamed_on_the_data(dead_mount: Path) -> None:
    with pytest.raises(OSError, match="Transport endpoint is not connected"):
        find_local(LocalPath(dead_mount), str(dead_mount), DatasetRoots((dead_mount.parent,)))
    with pytest.raises(OSError, match="Transport endpoint is not connected"):
        is_file(f"{dead_mount}/labels/train/0.txt")


@pytest.mark.parametrize(
    "number",
    [
        *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO, errno.ENOTCONN, errno.ECONNABORTED),
        *(errno.ECONNRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ESHUTDOWN),
    ],
)
def test_errors_of_a_failing_mount_may_be_temporary(number: int) -> None:
    assert is_passing(OSError(number, os.strerror(number)))


@pytest.mark.parametrize("name", ["0.png", "0.txt"])
def test_a_disk_error_does_not_count_as_a_change(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    break_disk: Callable[[str, str], None],
) -> None:
    cache = tmp_path / "cache"
    reference = check_dataset(str(build("detect", tmp_path / "data")), "detect", cache, None)
    local = materialize(reference, cache, None)
    break_disk("stat", name)
    with pytest.raises(OSError, match="Input/output error"):
        local.is_unchanged()
    monkeypatch.undo()
    assert local.is_unchanged()
