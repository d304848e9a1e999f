"""Checking any dataset yields a reference or a refusal with a reason, and touches nothing else."""

from __future__ import annotations

import io
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from include.datasets.caching.archive import UnpackLimits, unpack
from include.datasets.checking.validate import validate_dataset
from include.datasets.errors import DatasetError
from include.datasets.layouts.layout import read_layout
from include.datasets.layouts.samples import DatasetLocation
from tests.fuzz.conftest import Fuzz
from tests.support import tiny_datasets
from tests.support.fuzz import strategies

if TYPE_CHECKING:
    from include.ultralytics_tasks import Task

SECRET = f"secret-{secrets.token_hex(8)}"


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return paths outside the dataset that its files may name; their content must never be quoted."""
    file = tmp_path_factory.mktemp("outside") / "airflow.cfg"
    file.write_text(f"fernet_key = {SECRET}\n" * 3, encoding="utf-8")
    return [
        str(file),
        str(file.parent),
        f"../{file.parent.name}/airflow.cfg",
        "/proc/self/environ",
        "/dev/zero",
    ]


def _check(folder: Path, task: Task) -> bool:
    """Return whether the folder is a valid dataset; require that a refusal quotes no file from outside."""
    location = DatasetLocation(folder, "s3://bucket/data/", folder)
    try:
        validate_dataset(read_layout(location, task), location.source)
    except DatasetError as error:
        message = str(error)
        assert message
        assert SECRET not in message
        assert len(message.encode()) <= 4096
        return False
    return True


@pytest.mark.parametrize("task", ["detect", "segment", "obb", "pose"])
def test_any_label_file_is_accepted_or_refused(fuzz: Fuzz, tmp_path: Path, task: Task) -> None:
    tiny_datasets.build(task, tmp_path, train=1, val=1)
    label = tmp_path / "labels/train/0.txt"
    fuzz(strategies.labels(task), label.write_bytes, lambda: _check(tmp_path, task), tmp_path)


def test_any_data_yaml_is_accepted_or_refused(fuzz: Fuzz, tmp_path: Path, outside: list[str]) -> None:
    description = tiny_datasets.build("pose", tmp_path, train=1, val=1)
    inputs = strategies.descriptions(outside)
    fuzz(inputs, description.write_bytes, lambda: _check(tmp_path, "pose"), tmp_path)


def test_any_list_of_images_is_accepted_or_refused(fuzz: Fuzz, tmp_path: Path, outside: list[str]) -> None:
    description = tiny_datasets.build("detect", tmp_path, train=1, val=1)
    description.write_text("train: list.txt\nval: images/val\nnames: [a, b]\n", encoding="utf-8")
    inputs = strategies.lists(
        ["images/train/0.png", "./images/val/0.png", "images/train/../val/0.png"], outside
    )
    fuzz(inputs, (tmp_path / "list.txt").write_bytes, lambda: _check(tmp_path, "detect"), tmp_path)


def test_any_image_is_accepted_or_refused(fuzz: Fuzz, tmp_path: Path) -> None:
    tiny_datasets.build("detect", tmp_path, train=1, val=1, size=16)
    image = tmp_path / "images/train/0.png"
    inputs = st.sampled_from(list(_in_every_format(image))).flatmap(strategies.corrupted)
    fuzz(inputs, image.write_bytes, lambda: _check(tmp_path, "detect"), tmp_path)


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("semantic", "masks/train/0.png"),
        ("depth", "depth/train/0.png"),
        ("depth", "depth/train/0.npy"),
    ],
)
def test_any_mask_or_depth_map_is_accepted_or_refused(
    fuzz: Fuzz, tmp_path: Path, task: Task, name: str
) -> None:
    tiny_datasets.build(task, tmp_path, train=1, val=1, size=16)
    file = tmp_path / name
    if file.suffix == ".npy":
        file.with_suffix(".png").unlink()
        np.save(file, np.ones((16, 16), np.float32))
        seeds = st.just(file.read_bytes())
    else:
        seeds = st.sampled_from([file.read_bytes(), *_in_every_format(file)])
    fuzz(seeds.flatmap(strategies.corrupted), file.write_bytes, lambda: _check(tmp_path, task), tmp_path)


def _in_every_format(image: Path) -> Iterator[bytes]:
    for kind in ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "JPEG2000", "ICO"):
        written = io.BytesIO()
        Image.open(image).convert("RGB").save(written, kind)
        yield written.getvalue()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("task", ["detect", "classify"])
def test_any_archive_is_unpacked_or_refused(
    fuzz: Fuzz, tmp_path: Path, outside: list[str], task: Task
) -> None:
    seed, target, archive = tmp_path / "seed", tmp_path / "unpacked", tmp_path / "data.zip"
    store = tmp_path / "files"
    tiny_datasets.build(task, seed, train=2, val=2, size=16)
    good = {str(file.relative_to(seed)): file.read_bytes() for file in seed.rglob("*") if file.is_file()}

    def write(content: bytes) -> None:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        archive.write_bytes(content)

    def check() -> bool:
        try:
            limits = UnpackLimits(size=64 * 1024**2, files=1000)
            unpack(str(archive), str(target), "s3://bucket/data.zip", str(store), limits)
        except DatasetError:
            return False
        assert all(path.is_dir() or (path.is_file() and not path.is_symlink()) for path in target.rglob("*"))
        return _check(target, task)

    fuzz(strategies.archives(good, strategies.descriptions(outside)), write, check, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"data.zip", "files", "seed", "unpacked"}
