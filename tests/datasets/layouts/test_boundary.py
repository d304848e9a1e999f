"""A dataset consists of its own files; nothing outside it is read or quoted, whatever paths and links say."""

from __future__ import annotations

import io
import logging
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from include.datasets.check import inspect_dataset
from include.datasets.errors import DatasetError
from include.datasets.layouts.boundary import DatasetRoots
from include.datasets.s3 import S3ObjectReader
from include.training.quiet import PlainLines
from tests.support.dataset_steps import check_here, describe, materialize, refusal
from tests.support.tiny_datasets import build

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.ultralytics_tasks import Task

SECRET = "fernet_key = c2VjcmV0"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "roots" / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "roots" / "data"


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """Create text, labelled images and class folders that belong to no dataset; return their folder."""
    elsewhere = tmp_path / "elsewhere"
    build("detect", elsewhere)
    build("classify", elsewhere / "classes")
    (elsewhere / "airflow.cfg").write_text(f"{SECRET}\n" * 3)
    (elsewhere / "airflow.txt").write_text(f"{SECRET}\n" * 3)
    return elsewhere


def refused(source: Path | str, cache: Path, roots: DatasetRoots) -> str:
    with pytest.raises(DatasetError) as error:
        inspect_dataset(str(source), "detect", cache, None, roots)
    assert SECRET not in str(error.value)
    return str(error.value)


def examined(folder: Path, cache: Path, task: Task) -> str:
    message = refusal(folder, task, cache)
    assert SECRET not in message
    return message


def test_a_yaml_from_a_bucket_cannot_be_given_as_a_local_dataset(
    cache: Path, secrets: Path, bucket: str, s3_client: S3Client, tmp_path: Path
) -> None:
    """The attack: a fetched data YAML names a file on the worker as its list of images."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("data.yaml", "nonsense")
        archive.writestr("cred.yaml", f"train: {secrets / 'airflow.cfg'}\nval: images\nnames: [a]\n")
    s3_client.put_object(Bucket=bucket, Key="data.zip", Body=packed.getvalue())
    reader, roots = S3ObjectReader(s3_client), DatasetRoots((tmp_path,), cache)
    with pytest.raises(DatasetError):
        inspect_dataset(f"s3://{bucket}/data.zip", "detect", cache, reader, roots)
    (unpacked,) = cache.glob("*/content/cred.yaml")

    assert "is in TRAINING_ROOT" in refused(unpacked, cache, roots)
    (tmp_path / "link.yaml").symlink_to(unpacked)
    assert "is in TRAINING_ROOT" in refused(tmp_path / "link.yaml", cache, roots)
    (tmp_path / "linked").symlink_to(unpacked.parent)
    assert "is in TRAINING_ROOT" in refused(tmp_path / "linked", cache, roots)
    assert "is in TRAINING_ROOT" in refused(unpacked, cache, DatasetRoots((unpacked.parent,), cache))
    assert "switched off" in refused(unpacked, cache, DatasetRoots((), cache))
    with pytest.raises(DatasetError, match="leads outside the dataset"):
        inspect_dataset(f"s3://{bucket}/cred.yaml", "detect", cache, _Uploaded(s3_client, bucket, unpacked))


class _Uploaded(S3ObjectReader):
    """Reads a bucket after replacing data.zip in its root with `file`."""

    def __init__(self, client: S3Client, bucket: str, file: Path) -> None:
        super().__init__(client)
        client.delete_object(Bucket=bucket, Key="data.zip")
        client.upload_file(str(file), bucket, file.name)


def test_a_link_from_elsewhere_to_a_data_yaml_does_not_make_its_folder_a_dataset(
    folder: Path, cache: Path, secrets: Path
) -> None:
    data = build("detect", folder)
    describe(folder, path=None)
    (secrets / "data.yaml").unlink()
    (secrets / "data.yaml").symlink_to(data)
    message = refused(secrets / "data.yaml", cache, DatasetRoots((folder.parent,), cache))
    assert "is outside DATASET_ROOTS" in message


def test_local_paths_are_off_unless_a_root_is_set(folder: Path, cache: Path) -> None:
    data = build("detect", folder)
    message = refused(data, cache, DatasetRoots())
    assert "local paths are switched off" in message
    assert "DATASET_ROOTS is not set" in message
    assert "s3://" in message
    assert "not an absolute path" in refused(data, cache, DatasetRoots((Path("data"),)))


@pytest.mark.parametrize("name", ["airflow.cfg", "data.yaml", "nothing", "images", "airflow.cfg/x"])
def test_nothing_is_revealed_about_a_path_outside_the_roots(
    name: str, folder: Path, cache: Path, secrets: Path
) -> None:
    """The message is the same for all these paths, so it does not even reveal whether the path exists."""
    roots = DatasetRoots((folder,), cache)
    assert "is outside DATASET_ROOTS" in refused(secrets / name, cache, roots)


def test_a_root_may_be_a_link_and_the_path_may_be_its_target(
    tmp_path: Path, folder: Path, cache: Path
) -> None:
    data = build("detect", folder)
    describe(folder, path=None)
    alias = tmp_path / "alias"
    alias.symlink_to(folder.parent)
    for root, source in ((alias, data), (folder.parent, alias / "data"), (alias, alias / "data")):
        checked = inspect_dataset(str(source), "detect", cache, None, DatasetRoots((root,), cache))
        assert checked.reference.train_images == 8


def _link(place: str, target: str) -> Callable[[Path, Path], object]:
    def make(folder: Path, secrets: Path) -> None:
        if (folder / place).exists():
            (folder / place).rename(folder / "before")
        (folder / place).symlink_to(target.replace("ELSEWHERE", str(secrets)))

    return make


def _lines(*lines: str) -> Callable[[Path, Path], object]:
    def make(folder: Path, secrets: Path) -> None:
        text = "".join(f"{line.replace('ELSEWHERE', str(secrets))}\n" for line in lines)
        (folder / "train.txt").write_text(text)
        describe(folder, train="train.txt")

    return make


def _train(path: str) -> Callable[[Path, Path], object]:
    return lambda folder, secrets: describe(folder, train=path.replace("ELSEWHERE", str(secrets)))


def _fifo(place: str) -> Callable[[Path, Path], object]:
    def make(folder: Path, secrets: Path) -> None:
        (folder / place).unlink(missing_ok=True)
        os.mkfifo(folder / place)

    return make


def _pipe_as_list(folder: Path, secrets: Path) -> None:
    os.mkfifo(folder / "train.txt")
    describe(folder, train="train.txt")


def _path_of_roots(folder: Path, secrets: Path) -> None:
    """Point `path` to TRAINING_ROOT, the only folder below a root that `path` may not name."""
    (folder.parent / "cache" / "secrets").mkdir(parents=True)
    (folder.parent / "cache" / "secrets" / "list.txt").write_text(SECRET)
    describe(folder, path=str(folder.parent), train="cache/secrets/list.txt")


HARD: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "list elsewhere": (_train("ELSEWHERE/airflow.cfg"), "leads outside the dataset"),
    "list elsewhere by dots": (_train("../../elsewhere/airflow.cfg"), "leads outside the dataset"),
    "no list elsewhere": (_train("../../elsewhere/nothing"), "leads outside the dataset"),
    "images elsewhere": (_train("ELSEWHERE/images/train"), "leads outside the dataset"),
    "list of other files": (_lines("ELSEWHERE/airflow.cfg"), "train.txt:1: the line is not the name"),
    "list of other images": (_lines("ELSEWHERE/images/train/0.png"), "train.txt:1: "),
    "list of images by dots": (_lines("../../elsewhere/images/train/0.png"), "leads outside the dataset"),
    "list of missing images elsewhere": (_lines("ELSEWHERE/no.png"), "leads outside the dataset"),
    "list that is none": (_lines(SECRET), "train.txt:1: the line is not the name of an image"),
    "data YAML is a link": (
        _link("data.yaml", "ELSEWHERE/airflow.cfg"),
        "data.yaml is a link that leads",
    ),
    "image is a link": (
        _link("images/train/0.png", "ELSEWHERE/airflow.cfg"),
        "images/train/0.png: it leads outside",
    ),
    "image is a link to an image": (
        _link("images/val/0.png", "ELSEWHERE/images/train/0.png"),
        "images/val/0.png: it leads outside",
    ),
    "label is a link": (
        _link("labels/train/0.txt", "ELSEWHERE/airflow.txt"),
        "labels/train/0.txt: it leads outside",
    ),
    "label is a link to a process": (
        _link("labels/train/0.txt", "/proc/self/environ"),
        "labels/train/0.txt: it",
    ),
    "image is a link to a device": (_link("images/train/0.png", "/dev/zero"), "images/train/0.png: it leads"),
    "images are a link": (_link("images/train", "ELSEWHERE/images/train"), "leads outside the dataset"),
    "labels are a link": (
        _link("labels/train", "ELSEWHERE/labels/train"),
        "labels/train/0.txt: it leads outside",
    ),
    "image is a pipe": (_fifo("images/train/0.png"), "images/train/0.png: it is not a regular file"),
    "label is a pipe": (_fifo("labels/train/0.txt"), "labels/train/0.txt: it is not a regular file"),
    "data YAML is a pipe": (_fifo("data.yaml"), "contains no data YAML"),
    "list is a pipe": (_pipe_as_list, "it is not a regular file"),
    "TRAINING_ROOT below a root": (_path_of_roots, "leads outside the dataset"),
}


@pytest.mark.parametrize("case", HARD)
def test_a_dataset_that_points_outside_itself_is_refused_and_no_outside_file_is_quoted(
    case: str, folder: Path, cache: Path, secrets: Path
) -> None:
    build("detect", folder)
    describe(folder, path=None)
    change, reason = HARD[case]
    change(folder, secrets)
    assert reason in examined(folder, cache, "detect")


@pytest.mark.parametrize(
    ("place", "target", "reason"),
    [
        ("train/box", "classes/train/box", "'train/box' leads outside"),
        ("train", "classes/train", "'train' leads outside"),
        ("val", "classes/val", "'val' leads outside"),
        ("train/box/0.png", "images/train/0.png", "train/box/0.png: it leads outside"),
    ],
)
def test_class_folders_that_point_outside_the_dataset_are_refused_with_their_names(
    place: str, target: str, reason: str, folder: Path, cache: Path, secrets: Path
) -> None:
    build("classify", folder)
    _link(place, f"ELSEWHERE/{target}")(folder, secrets)
    assert reason in examined(folder, cache, "classify")


def test_links_inside_the_dataset_are_accepted(folder: Path, cache: Path) -> None:
    data = build("detect", folder)
    pool = folder / "pool"
    pool.mkdir()
    for path in [*(folder / "images" / "train").iterdir(), *(folder / "labels" / "train").iterdir()]:
        moved = path.rename(pool / path.name)
        path.symlink_to(Path("../../pool", moved.name))
    reference = check_here(data, "detect", cache)
    assert reference.train_images == 8
    view = materialize(reference, cache, None).data.parent
    links = [path.readlink() for path in (view / "images" / "train").iterdir()]
    assert {link.parent for link in links} == {pool}, "the view links only to checked files"


def test_the_path_of_a_data_yaml_may_be_another_folder_below_the_roots(folder: Path, cache: Path) -> None:
    build("detect", folder)
    yaml = folder.parent / "yamls" / "mine.yaml"
    yaml.parent.mkdir()
    describe(folder, path=str(folder)).rename(yaml)
    assert check_here(yaml, "detect", cache).train_images == 8
    elsewhere = DatasetRoots((yaml.parent,), cache)
    message = refused(yaml, cache, elsewhere)
    assert "'images/train' does not exist" in message
    assert "so it is ignored" in message


def test_the_machine_that_trains_applies_its_own_roots(folder: Path, cache: Path) -> None:
    reference = check_here(build("detect", folder), "detect", cache)
    with pytest.raises(DatasetError, match="DATASET_ROOTS is not set"):
        materialize(reference, cache, None, roots=DatasetRoots())
    with pytest.raises(DatasetError, match="is in TRAINING_ROOT"):
        materialize(reference, cache, None, roots=DatasetRoots((folder.parent,), folder.parent))


def test_a_file_that_became_a_link_after_the_check_is_not_trained_on(
    folder: Path, cache: Path, secrets: Path
) -> None:
    reference = check_here(build("detect", folder), "detect", cache)
    label = folder / "labels" / "train" / "0.txt"
    label.unlink()
    label.symlink_to(secrets / "airflow.txt")
    with pytest.raises(DatasetError, match=r"labels/train/0\.txt: it leads outside"):
        materialize(reference, cache, None)


def test_an_unreadable_yaml_is_reported_by_position_and_not_quoted(folder: Path, cache: Path) -> None:
    build("detect", folder)
    for text in (f"a: [{SECRET}", f"{SECRET}\n\t- x: {{", f"'{SECRET}\n", f"? {SECRET}\n: &a [*b]"):
        (folder / "data.yaml").write_text(text)
        assert "c2VjcmV0" not in refusal(folder, "detect", cache)


def test_ultralytics_does_not_quote_a_file_that_replaced_a_label_after_the_check() -> None:
    quoted = "train: /data/a.png: ignoring corrupt image/label: could not convert string to float: 'secret'"
    record = logging.LogRecord("ultralytics", logging.WARNING, "", 0, quoted, None, None)
    assert PlainLines().filter(record)
    assert record.getMessage() == (
        "train: /data/a.png: ignoring corrupt image/label; `check_dataset` says why"
    )


def test_an_image_may_be_listed_a_hundred_times(folder: Path, cache: Path) -> None:
    build("detect", folder)
    (folder / "data.yaml").write_text("train: list.txt\nval: images/val\nnames: [box, arrow]\n")
    image = next((folder / "images" / "train").iterdir()).name
    (folder / "list.txt").write_text(f"images/train/{image}\n" * 101)
    assert "lists an image more than 100 times; list each image" in examined(folder, cache, "detect")
