"""The manifest has a line for each image, is written in bounded memory, and is reproducible."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from include.datasets.check import inspect_dataset
from include.datasets.checking.summaries import Digests
from include.datasets.checking.validate import validate_dataset
from include.datasets.errors import DatasetNotHere
from include.datasets.layouts.layout import read_layout
from include.datasets.layouts.samples import DatasetLocation
from tests.support.dataset_steps import roots_beside
from tests.support.tiny_datasets import TASKS, build

if TYPE_CHECKING:
    from include.ultralytics_tasks import Task

ROOT = Path(__file__).parents[3]


def _read(file: Path) -> list[dict[str, Any]]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_manifest_names_each_image_with_its_hashes_and_counts(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    build("detect", folder)
    (folder / "labels" / "train" / "0.txt").write_text(
        "1 0.5 0.5 0.5 0.5\n0 0.3 0.3 0.2 0.2\n1 0.6 0.6 0.2 0.2\n"
    )
    (folder / "labels" / "val" / "3.txt").unlink()
    file = tmp_path / "manifest.jsonl.gz"
    cache = tmp_path / "cache"
    inspect_dataset(str(folder), "detect", cache, None, roots_beside(cache), manifest=file)
    entries = _read(file)
    assert [(entry["split"], entry["name"]) for entry in entries] == [
        *(("train", f"{number}.png") for number in range(8)),
        *(("val", f"{number}.png") for number in range(4)),
    ]
    assert entries[0] == {
        "split": "train",
        "name": "0.png",
        "image": _sha256(folder / "images" / "train" / "0.png"),
        "label": _sha256(folder / "labels" / "train" / "0.txt"),
        "width": 64,
        "height": 64,
        "classes": {"0": 1, "1": 2},
    }
    assert (entries[-1]["label"], entries[-1]["classes"]) == (None, {})


def test_a_full_disk_while_writing_the_manifest_is_not_blamed_on_the_data(tmp_path: Path) -> None:
    source, cache = str(build("detect", tmp_path / "data")), tmp_path / "cache"
    with pytest.raises(DatasetNotHere, match="cannot be stored on this machine: the disk is full"):
        inspect_dataset(source, "detect", cache, None, roots_beside(cache), manifest=Path("/dev/full"))


@pytest.mark.parametrize("task", TASKS)
def test_the_same_data_give_the_same_manifest(task: Task, tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        folder = tmp_path / name
        build(task, folder, train=4, val=4)
        file = tmp_path / f"{name}.jsonl.gz"
        validate_dataset(read_layout(DatasetLocation(folder, name, folder), task), name, manifest=file)
        contents.append(file.read_bytes())
    assert contents[0] == contents[1]


def test_a_name_that_is_not_utf_8_does_not_break_the_manifest(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    build("detect", folder)
    (folder / "images" / "train" / "0.png").rename(folder / "images" / "train" / "\udcff.png")
    file = tmp_path / "manifest.jsonl.gz"
    validate_dataset(read_layout(DatasetLocation(folder, "data", folder), "detect"), "data", manifest=file)
    assert json.dumps(_read(file), ensure_ascii=False).encode()
    assert "\\udcff.png" in [entry["name"] for entry in _read(file)]


def test_equal_images_are_found_in_groups_with_ascending_numbers() -> None:
    digests = Digests()
    names = [str(number % 700) if number % 3 else f"alone {number}" for number in range(2000)]
    for name in names:
        digests.add(hashlib.sha256(name.encode()).hexdigest())
    expected = {name: [n for n, other in enumerate(names) if other == name] for name in set(names)}
    found = list(digests.find_duplicates())
    assert sorted(found) == sorted(group for group in expected.values() if len(group) > 1)
    assert not list(Digests().find_duplicates())


MANY = """
import hashlib, resource
from include.datasets.checking.summaries import Digests
import numpy
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
digests = Digests()
for number in range(200_000):
    digests.add(hashlib.sha256(b"%d" % (number % 199_000)).hexdigest())
assert sum(len(group) - 1 for group in digests.find_duplicates()) == 1000
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


def test_many_images_are_compared_in_little_memory() -> None:
    command = [sys.executable, "-c", MANY]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200_000 * 100, "bytes in addition to the memory of the modules"
