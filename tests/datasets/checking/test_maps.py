"""Masks and depth maps that Ultralytics trains on are accepted; those that it would skip are named."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import pytest
from PIL import Image

from include.datasets.check import inspect_dataset
from include.datasets.checking.findings import Finding
from include.datasets.errors import DatasetError
from include.datasets.names import is_ignored
from tests.support.dataset_steps import (
    check_dataset,
    check_here,
    describe,
    materialize,
    refusal,
    roots_beside,
)
from tests.support.plain_scans import plain_scans
from tests.support.tiny_datasets import MAPS, build

if TYPE_CHECKING:
    from include.ultralytics_tasks import Task

Change = Callable[[Path], object]


def mask(pixels: Any, mode: str | None = None, **options: Any) -> Change:
    image = Image.fromarray(np.asarray(pixels))
    return lambda path: (image.convert(mode) if mode else image).save(path, **options)


def filled(value: int, kind: type = np.uint8, size: int = 64) -> np.ndarray:
    return np.full((size, size), value, kind)


def palette(colours: list[int], pixels: np.ndarray) -> Change:
    image = Image.fromarray(pixels, "P")
    image.putpalette(colours)
    return image.save


def fractions(path: Path) -> None:
    path.unlink()
    Image.fromarray(filled(0, np.float32)).save(path.with_suffix(".tiff"))


CHECKER = np.indices((64, 64)).sum(axis=0).astype(np.uint8) % 2

GOOD_MASKS: dict[str, Change] = {
    "grey": mask(CHECKER),
    "all ignored": mask(filled(255)),
    "16 bits": lambda path: cv2.imwrite(str(path), CHECKER.astype(np.uint16)),
    "one bit": mask(CHECKER * 255, "1"),
    "palette of colours": palette([0, 0, 0, 128, 0, 0], CHECKER),
    "palette of greys": palette([0, 0, 0, 1, 1, 1], CHECKER),
    "grey in three channels": mask(np.repeat(CHECKER[..., None], 3, axis=2)),
    "lossy but flat": mask(filled(0), format="JPEG"),
}
BAD_MASKS: dict[str, tuple[Change, str]] = {
    "unknown id": (
        mask(filled(2)),
        "pixels have the ids 2, which stand for no class: names has 2 classes, so classes are 0..1, and 255",
    ),
    "white for the class": (mask(CHECKER * 200), "have the ids 200"),
    "ids above 255": (
        lambda path: cv2.imwrite(str(path), filled(300, np.uint16)),
        "have the ids 300",
    ),
    "colours": (mask(np.dstack([CHECKER * 90, CHECKER * 30, CHECKER * 200])), "pixels have the ids"),
    "another size": (mask(filled(0, size=32)), "the mask has 32 x 32 pixels, its image 64 x 64"),
    "fractions": (fractions, "its pixels are fractions"),
    "text": (lambda path: path.write_text("no mask"), "not an image"),
    "nothing": (lambda path: path.write_bytes(b""), "empty (0 bytes)"),
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:60]), "damaged"),
    "missing": (Path.unlink, "it has no masks/train/"),
}

GOOD_DEPTHS: dict[str, Change] = {
    "millimetres": lambda path: cv2.imwrite(str(path), filled(1500, np.uint16)),
    "half the size": lambda path: cv2.imwrite(str(path), filled(1500, np.uint16, 32)),
    "nothing known": lambda path: cv2.imwrite(str(path), filled(0, np.uint16)),
    "array": lambda path: array(path, filled(2, np.float32)),
    "array of halves": lambda path: array(path, filled(2, np.float16)),
    "array with gaps": lambda path: array(path, np.where(CHECKER, np.nan, -1.0)),
}
BAD_DEPTHS: dict[str, tuple[Change, str]] = {
    "8 bits": (mask(filled(15)), "it is a PNG with pixels of mode L"),
    "colours": (mask(np.zeros((64, 64, 3), np.uint8)), "pixels of mode RGB"),
    "a TIFF in disguise": (
        lambda path: Image.fromarray(filled(15, np.uint16)).save(path, format="TIFF"),
        "it is a TIFF",
    ),
    "another shape": (
        lambda path: cv2.imwrite(str(path), np.full((64, 32), 1500, np.uint16)),
        "the map has 32 x 64 pixels, its image 64 x 64",
    ),
    "array of whole numbers": (lambda path: array(path, filled(2, np.int32)), "array of floating-point"),
    "array of colours": (lambda path: array(path, np.zeros((64, 64, 3))), "two-dimensional"),
    "pickle": (lambda path: array(path, np.array([{}], object)), "not an array in NumPy's format"),
    "cut array": (
        lambda path: array(path, filled(2, np.float32), cut=500),
        "not an array in NumPy's format",
    ),
    "no array": (lambda path: array(path, filled(2, np.float32), cut=5), "not an array in NumPy's format"),
    "text": (lambda path: path.write_text("no map"), "not an image"),
    "missing": (Path.unlink, "it has no depth/train/"),
}


def array(path: Path, metres: np.ndarray, cut: int | None = None) -> None:
    path.unlink()
    file = path.with_suffix(".npy")
    np.save(file, metres, allow_pickle=True)
    if cut:
        file.write_bytes(file.read_bytes()[:cut])


def changed(task: Task, folder: Path, changes: Collection[Change]) -> Path:
    """Build a dataset, and apply each change to one of the first maps in train."""
    data = build(task, folder, train=max(8, len(changes) + 1))
    for index, change in enumerate(changes):
        change(folder / MAPS[task] / "train" / f"{index}.png")
    return data


def used_by_ultralytics(data: Path, task: Task) -> set[str]:
    """Return the stems of the images that plain Ultralytics trains on with this data YAML."""
    from ultralytics.data.dataset import DepthDataset, SemanticDataset
    from ultralytics.data.utils import check_det_dataset

    kind = {"semantic": SemanticDataset, "depth": DepthDataset}[task]
    described = check_det_dataset(str(data), autodownload=False)
    with plain_scans():
        used = kind(img_path=described["train"], data=described, task=task, imgsz=64, augment=False)
    for index in range(len(used.labels)):
        assert (used.load_mask(index) if task == "semantic" else used._load_depth(index)) is not None
    return {Path(label["im_file"]).stem for label in used.labels}


@pytest.mark.parametrize(("task", "changes"), [("semantic", GOOD_MASKS), ("depth", GOOD_DEPTHS)])
def test_maps_that_ultralytics_trains_on_are_accepted_and_materialized(
    task: Task, changes: dict[str, Change], folder: Path, cache: Path
) -> None:
    data = changed(task, folder, changes.values())
    everything = {path.stem for path in (folder / "images" / "train").iterdir()}
    assert used_by_ultralytics(data, task) == everything
    local = materialize(check_here(data, task, cache), cache, None)
    assert used_by_ultralytics(local.data, task) == everything


BAD: dict[Task, dict[str, tuple[Change, str]]] = {"semantic": BAD_MASKS, "depth": BAD_DEPTHS}


class Refused(NamedTuple):
    problems: list[Finding]
    used: set[str]


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[Task, Refused]:
    """Return, by task, the check's problems and the images Ultralytics uses in a dataset with every fault."""
    found = {}
    for task, faults in BAD.items():
        folder = tmp_path_factory.mktemp(task)
        data = changed(task, folder / "data", [change for change, _ in faults.values()])
        with pytest.raises(DatasetError) as error:
            check_dataset(str(data), task, folder / "cache", None)
        found[task] = Refused(list(error.value.findings), used_by_ultralytics(data, task))
    return found


@pytest.mark.parametrize(
    ("task", "fault"), [(task, fault) for task, faults in BAD.items() for fault in faults]
)
def test_images_that_ultralytics_would_skip_are_named(
    task: Task, fault: str, refused: dict[Task, Refused]
) -> None:
    number = list(BAD[task]).index(fault)
    (problem,) = (each for each in refused[task].problems if Path(each.file).stem == str(number))
    assert problem.kind == "label-map"
    assert BAD[task][fault][1] in str(problem)
    assert str(number) not in refused[task].used


@pytest.mark.parametrize(
    ("task", "changes", "reason"),
    [
        ("semantic", {"masks_dir": "../masks"}, "masks_dir: '../masks' must name the folder"),
        ("semantic", {"masks_dir": ["masks"]}, "masks_dir: ['masks'] must name the folder"),
        ("semantic", {"label_mapping": [0, 1]}, "label_mapping: [0, 1] must map the ids"),
        ("semantic", {"label_mapping": {0: "sky"}}, "label_mapping: the entry 0: 'sky' must map"),
        ("semantic", {"label_mapping": {0: 256}}, "label_mapping: the entry 0: 256 must map"),
        (
            "semantic",
            {"label_mapping": {0: 0, 1: 7}},
            "have the ids 1, which stand for no class: names has 2 classes, so classes are 0..1",
        ),
        (
            "semantic",
            {"names": [f"c{n}" for n in range(255)]},
            "names: 255 classes exceed the limit of 254 for the task semantic",
        ),
        ("depth", {"depth_scale": 0}, "depth_scale must be a positive number, not 0"),
        ("depth", {"depth_scale": "1000"}, "depth_scale must be a positive number, not '1000'"),
        ("depth", {"max_depth": -1}, "max_depth must be a positive number, not -1"),
        ("depth", {"depth_scale": 1}, "val: every distance is 100 m or more"),
    ],
)
def test_keys_that_would_make_training_fail_are_refused(
    task: Task, changes: dict[str, Any], reason: str, folder: Path, cache: Path
) -> None:
    build(task, folder)
    describe(folder, **changes)
    assert reason in refusal(folder, task, cache)


def test_ids_are_mapped_to_classes(folder: Path, cache: Path) -> None:
    build("semantic", folder)
    for path in folder.rglob("masks/*/*.png"):
        pixels = np.asarray(Image.open(path))
        cv2.imwrite(str(path), np.choose(np.minimum(pixels, 2), [7, 11, 33]).astype(np.uint8))
    assert "have the ids 7, 11, 33" in refusal(folder, "semantic", cache)
    data = describe(folder, label_mapping={7: 0, "11": "1", 33: "ignore_label", -1: None})
    local = materialize(check_here(data, "semantic", cache), cache, None)
    assert len(used_by_ultralytics(local.data, "semantic")) == 8


def test_masks_in_another_folder_are_the_same_data(folder: Path, cache: Path) -> None:
    before = check_here(build("semantic", folder), "semantic", cache)
    shutil.move(folder / "masks", folder / "annotations" / "fine")
    data = describe(folder, masks_dir="annotations/fine/")
    reference = check_here(data, "semantic", cache)
    assert reference.fingerprint == before.fingerprint
    assert len(used_by_ultralytics(materialize(reference, cache, None).data, "semantic")) == 8


def test_a_link_called_masks_does_not_matter_if_the_data_yaml_names_another_folder(
    folder: Path, cache: Path, tmp_path: Path
) -> None:
    build("semantic", folder)
    (folder / "masks").rename(folder / "fine")
    (tmp_path / "elsewhere").mkdir()
    (folder / "masks").symlink_to(tmp_path / "elsewhere")
    reference = check_here(describe(folder, masks_dir="fine"), "semantic", cache)
    assert len(used_by_ultralytics(materialize(reference, cache, None).data, "semantic")) == 8
    describe(folder, masks_dir=None)
    assert "masks/ is a link that leads outside the dataset" in refusal(folder, "semantic", cache)


def test_masks_are_used_even_if_the_data_yaml_does_not_name_their_folder(
    folder: Path, cache: Path, tmp_path: Path
) -> None:
    before = check_here(build("semantic", folder), "semantic", cache)
    shutil.copytree(build("segment", tmp_path / "outlines").parent / "labels", folder / "labels")
    data = describe(folder, masks_dir=None)
    assert len(used_by_ultralytics(data, "semantic")) == 8
    reference = check_here(data, "semantic", cache)
    assert reference.fingerprint == before.fingerprint
    assert len(used_by_ultralytics(materialize(reference, cache, None).data, "semantic")) == 8


def test_an_empty_masks_dir_means_outlines_even_beside_masks(folder: Path, cache: Path) -> None:
    build("segment", folder)
    (folder / "masks").mkdir()
    data = describe(folder, masks_dir="")
    table = check_here(data, "semantic", cache).class_table
    assert table is not None
    assert all(count.train for count in table)


def test_outlines_are_drawn_as_masks_if_there_are_no_masks(folder: Path, cache: Path) -> None:
    from ultralytics.data.dataset import PolygonSemanticDataset
    from ultralytics.data.utils import add_polygon_background, check_det_dataset

    reference = check_here(build("segment", folder), "semantic", cache)
    local = materialize(reference, cache, None)
    data = add_polygon_background(check_det_dataset(str(local.data)))
    used = PolygonSemanticDataset(img_path=data["train"], data=data, task="semantic", imgsz=64, augment=False)
    assert len(used.labels) == 8
    assert set(np.unique(used.load_mask(1, (64, 64)))) == {0, 1, 2}
    (folder / "labels" / "train" / "3.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    assert "this is a detect label (5 columns), but task='semantic'" in refusal(folder, "semantic", cache)


def test_a_png_is_preferred_to_an_array_as_in_ultralytics(folder: Path, cache: Path) -> None:
    data = build("depth", folder)
    np.save(folder / "depth" / "train" / "0.npy", np.zeros((3, 3, 3)))
    assert len(used_by_ultralytics(data, "depth")) == 8
    check_here(data, "depth", cache)


@pytest.mark.parametrize("task", ["semantic", "depth"])
def test_the_message_for_a_split_without_maps_names_where_they_are_expected(
    task: Task, folder: Path, cache: Path
) -> None:
    data = build(task, folder)
    kind = MAPS[task]
    shutil.rmtree(folder / kind / "val")
    message = refusal(data, task, cache)
    assert f"{kind}/val/0.png: no image of val has a label file" in message
    assert f"the last folder named 'images' in its path becomes '{kind}'" in message


@pytest.mark.parametrize(
    ("task", "nothing", "reason"),
    [
        ("semantic", filled(255), "train: every pixel is ignored, or has no known distance"),
        ("depth", filled(0, np.uint16), "train: every pixel is ignored, or has no known distance"),
    ],
)
def test_a_split_with_nothing_to_learn_is_refused(
    task: Task, nothing: np.ndarray, reason: str, folder: Path, cache: Path
) -> None:
    data = build(task, folder)
    for path in folder.glob("*/train/*.png"):
        if path.parents[1].name != "images":
            cv2.imwrite(str(path), nothing)
    assert reason in refusal(data, task, cache)


@pytest.mark.parametrize("task", ["semantic", "depth"])
def test_maps_that_would_count_as_images_are_refused(task: Task, folder: Path, cache: Path) -> None:
    build(task, folder)
    kind = MAPS[task]
    (folder / "train").mkdir()
    for name in ("images", kind):
        shutil.move(folder / name / "train", folder / "train" / name)
    describe(folder, train="train/images")
    check_here(folder, task, cache)
    describe(folder, train="train")
    assert "its labels would be" in refusal(folder, task, cache)
    shutil.rmtree(folder / "train" / kind)
    assert "is below a folder named images within its split" in refusal(folder, task, cache)


def test_a_folder_of_masks_that_points_outside_the_dataset_is_refused(
    folder: Path, cache: Path, tmp_path: Path
) -> None:
    data = build("semantic", folder)
    shutil.move(folder / "masks", tmp_path / "elsewhere")
    (folder / "masks").symlink_to(tmp_path / "elsewhere")
    assert "leads outside the dataset" in refusal(data, "semantic", cache)


def test_the_images_with_a_class_are_counted(folder: Path, cache: Path) -> None:
    build("semantic", folder, train=8, val=4)
    names = {
        split: [set(np.unique(np.asarray(Image.open(path)))) for path in paths]
        for split in ("train", "val")
        if (paths := sorted((folder / "masks" / split).iterdir()))
    }
    table = check_here(folder, "semantic", cache).class_table
    assert table is not None
    for number, count in enumerate(table):
        expected = {split: sum(number in found for found in masks) for split, masks in names.items()}
        assert (count.train, count.train_images) == (expected["train"], expected["train"])
        assert (count.val, count.val_images) == (expected["val"], expected["val"])
    assert not check_here(build("depth", folder.with_name("depth")), "depth", cache).class_table


def test_the_pixels_of_a_single_class_are_counted(folder: Path, cache: Path) -> None:
    build("semantic", folder)
    describe(folder, names={0: "arrow"}, label_mapping={255: 0})
    reference = check_here(folder, "semantic", cache)
    assert reference.class_table is not None
    (count,) = reference.class_table
    assert count.name == "arrow"
    assert 0 < count.train <= 8


@pytest.mark.parametrize(
    ("task", "nothing"), [("semantic", mask(filled(255))), ("depth", mask(filled(0, np.uint16)))]
)
def test_a_map_with_nothing_to_learn_causes_a_warning(
    task: Task, nothing: Change, folder: Path, cache: Path
) -> None:
    found = inspect_dataset(str(changed(task, folder, [nothing])), task, cache, None, roots_beside(cache))
    (kind,) = found.warnings
    assert (kind.kind, kind.count) == ("empty-maps", 1)
    assert str(kind.places[0]).endswith("train/0.png: nothing can be learnt from it")


@pytest.mark.parametrize(
    ("name", "ignored"),
    [
        ("depth/train/0.npy", False),
        ("images/train/0.npy", True),
        ("depth.npy", True),
        ("depth/0.cache", True),
    ],
)
def test_only_depth_maps_are_fetched_as_arrays(name: str, ignored: bool) -> None:
    """Ultralytics would load any other array instead of the image beside it."""
    assert is_ignored(tuple(name.split("/"))) == ignored
