"""The bundled digits dataset is the same on every machine, and a model can learn from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from include.datasets import digits
from include.datasets.caching.fetch import materialize
from include.datasets.check import inspect_dataset
from include.datasets.checking.label_lines import LabelRules
from include.datasets.checking.labels import check_labels
from include.datasets.checking.validate import validate_dataset
from include.datasets.fingerprint import compute_content_fingerprint
from include.datasets.layouts.layout import read_layout
from include.datasets.layouts.samples import DatasetLocation, Layout


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    root = tmp_path_factory.mktemp("digits")
    digits.write_digits(root)
    return read_layout(DatasetLocation(root, "digits", root), "detect")


def test_the_scenes_have_the_expected_bytes(scenes: Layout) -> None:
    expected = "290eb5f589f9a7fe586f1a4531cce3394a7318c7c7879e045915409a6cabd8ec"
    assert compute_content_fingerprint(scenes, "digits") == expected == digits.FINGERPRINT


def test_the_reference_describes_the_scenes_correctly(scenes: Layout, tmp_path: Path) -> None:
    reference = inspect_dataset("digits", "detect", tmp_path, None).reference
    size = sum(path.stat().st_size for path in scenes.root.rglob("*") if path.suffix in {".png", ".txt"})
    assert (reference.train_images, reference.val_images, reference.size) == (400, 100, size)
    assert reference.classes == scenes.names
    assert not list(tmp_path.iterdir()), "no image is drawn before training"


def test_the_scenes_pass_our_own_check(scenes: Layout, tmp_path: Path) -> None:
    found = validate_dataset(scenes, "digits")
    assert not found.warnings
    assert found.fingerprint == digits.FINGERPRINT
    assert found.class_table == inspect_dataset("digits", "detect", tmp_path, None).reference.class_table


def test_every_scene_shows_the_digits_that_its_labels_name(scenes: Layout) -> None:
    for sample in [sample for split in scenes.splits.values() for sample in split]:
        assert sample.label is not None
        checked = check_labels(Path(sample.label), LabelRules("detect", 10))
        assert (checked.problems, checked.objects in range(1, 5)) == ([], True)
        with Image.open(sample.image) as image:
            assert (image.size, image.mode) == ((64, 64), "L")
            pixels = image.load()
            assert pixels is not None
            for line in Path(sample.label).read_text().splitlines():
                _, x, y, width, height = (float(number) for number in line.split())
                left, top = round((x - width / 2) * 64), round((y - height / 2) * 64)
                ink = [
                    pixels[column, row]
                    for column in range(left, left + round(width * 64))
                    for row in range(top, top + round(height * 64))
                ]
                assert max(ink) > 100, f"{sample.name}: nothing is drawn in {line}"


def test_training_and_validation_share_no_scan() -> None:
    from sklearn.datasets import load_digits  # here, because it imports pandas and SciPy for a second

    scans = digits.load_scans()
    train, val = ({id(scan) for scan in digits.deal(scans)[split]} for split in digits.SCENES)
    assert not train & val
    assert len(train | val) == len(scans) == len(load_digits().target) == 1797


def test_the_training_machine_draws_the_scenes_once(tmp_path: Path) -> None:
    reference = inspect_dataset("digits", "detect", tmp_path, None).reference
    with materialize(reference, tmp_path, None) as local:
        assert len(list((local.data.parent / "images" / "train").iterdir())) == 400
    program = (
        "import sys; sys.modules['sklearn'] = None\n"
        "from pathlib import Path\n"
        "from include.datasets.caching.fetch import materialize\n"
        "from include.datasets.reference import DatasetReference\n"
        f"with materialize(DatasetReference.model_validate_json({reference.model_dump_json()!r}), "
        f"Path({str(tmp_path)!r}), None): pass"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


def test_digits_that_are_lost_on_a_machine_are_drawn_again(tmp_path: Path) -> None:
    reference = inspect_dataset("digits", "detect", tmp_path, None).reference
    for suffix in ("png", "txt"):
        with materialize(reference, tmp_path, None) as local:
            images = local.data.parent / "images"
            assert len(list(images.rglob("*.png"))) == reference.train_images + reference.val_images
        for folder in ("content", "view-detect"):
            next((tmp_path / reference.fingerprint / folder).rglob(f"*.{suffix}")).unlink()
    with materialize(reference, tmp_path, None) as local:
        assert len(list((local.data.parent / "labels").rglob("*.txt"))) == 500
