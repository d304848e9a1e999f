"""Each machine keeps one copy of a file: files that two datasets share are not fetched again."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from include.datasets import shares
from include.datasets.caching import fetch, tree
from include.datasets.caching.cache import DatasetCache
from include.datasets.caching.fetch import locate
from include.datasets.caching.fetch import materialize as materializing
from include.datasets.check import inspect_dataset
from include.datasets.errors import DatasetChanged, DatasetError
from include.datasets.layouts.boundary import DatasetRoots
from include.datasets.sources import S3Tree
from include.datasets.storage import StoredObject
from include.s3.errors import StoreUnavailable
from tests.datasets.test_s3_faults import start_fetcher
from tests.support.cache_kills import Objects
from tests.support.dataset_fetcher import CountingReader
from tests.support.dataset_steps import images, materialize, roots_beside, upload_files, upload_zip
from tests.support.tiny_datasets import build
from tests.support.waiting import until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.datasets.reference import DatasetReference
    from include.stack.s3 import S3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build("detect", tmp_path / "data", train=3, val=2)
    return tmp_path / "data"


def stored(cache: Path) -> list[Path]:
    return [path for path in (cache / "files").rglob("*") if path.is_file()]


def count_known(cache: Path) -> int:
    """Return the number of images and label files that checks on this machine have read."""
    with closing(sqlite3.connect(cache / "checked.sqlite3")) as database:
        return int(database.execute("SELECT count(*) FROM files").fetchone()[0])


def add_image(folder: Path) -> None:
    image = folder / "images" / "train" / "0.png"
    shutil.copy(image, image.with_name("new.png"))
    with image.with_name("new.png").open("ab") as file:
        file.write(b"\0")
    (folder / "labels" / "train" / "new.txt").write_text("0 0.5 0.5 0.25 0.125\n")


@pytest.mark.parametrize("many", [shares.MANY, 1], ids=["few", "many"])
def test_after_one_image_is_added_only_that_image_is_fetched_and_checked(
    folder: Path,
    cache: Path,
    bucket: str,
    s3_client: S3Client,
    reader: CountingReader,
    monkeypatch: pytest.MonkeyPatch,
    many: int,
) -> None:
    """With `many`, several processes link the files, as they do for a large dataset."""
    monkeypatch.setattr(tree, "MANY", many)
    monkeypatch.setattr(fetch, "MANY", many)
    upload_files(s3_client, bucket, folder, "set/")
    first = inspect_dataset(f"s3://{bucket}/set/", "detect", cache, reader).reference
    fetched, files, known = reader.reads, len(stored(cache)), count_known(cache)
    add_image(folder)
    upload_files(s3_client, bucket, folder, "set/")
    second = inspect_dataset(f"s3://{bucket}/set/", "detect", cache, reader).reference
    assert second.train_images == first.train_images + 1
    assert reader.reads == fetched + 2, "the image and its labels"
    assert len(stored(cache)) == files + 2
    assert count_known(cache) == known + 2, "the other files were not read again"
    assert (
        len(images(materialize(second, cache, reader))) == len(images(materialize(first, cache, reader))) + 1
    )


def test_the_same_objects_under_another_prefix_are_not_fetched_again(
    folder: Path, cache: Path, bucket: str, s3_client: S3Client, reader: CountingReader
) -> None:
    upload_files(s3_client, bucket, folder, "one/")
    inspect_dataset(f"s3://{bucket}/one/", "detect", cache, reader)
    fetched = reader.reads
    (folder / "images").rename(folder / "pictures")
    shutil.copytree(folder / "labels", folder / "pictures", dirs_exist_ok=True)
    data = folder / "data.yaml"
    data.write_text(data.read_text().replace("images/", "pictures/"))
    upload_files(s3_client, bucket, folder, "two/")
    inspect_dataset(f"s3://{bucket}/two/", "detect", cache, reader)
    assert reader.reads == fetched + 1, "the data YAML"


def test_a_changed_zip_shares_its_unchanged_files(
    folder: Path, cache: Path, bucket: str, s3_client: S3Client, reader: CountingReader
) -> None:
    inspect_dataset(upload_zip(s3_client, bucket, folder), "detect", cache, reader)
    before = {path.name: path.stat().st_ino for path in stored(cache)}
    add_image(folder)
    inspect_dataset(upload_zip(s3_client, bucket, folder), "detect", cache, reader)
    after = {path.name: path.stat().st_ino for path in stored(cache)}
    assert before.items() < after.items()
    assert len(after) == len(before) + 2


def test_a_killed_fetch_continues_where_it_stopped(
    s3: S3,
    folder: Path,
    cache: Path,
    bucket: str,
    s3_client: S3Client,
    reader: CountingReader,
    tmp_path: Path,
) -> None:
    upload_files(s3_client, bucket, folder, "set/")
    reference = inspect_dataset(f"s3://{bucket}/set/", "detect", tmp_path / "checking", reader).reference
    fetched = reader.reads
    process = start_fetcher(s3, reference, cache, hang=True, hang_after=5)
    until(lambda: len(stored(cache)) >= 5, seconds=60, pause=0.02)
    process.kill()
    process.communicate()
    kept = len(stored(cache))
    assert not list(cache.glob("*/content"))
    materialize(reference, cache, reader)
    assert reader.reads == fetched + fetched - kept


def truncate(file: Path) -> None:
    file.chmod(0o600)  # a failing disk needs no write permission to damage a file
    os.truncate(file, 10)


@pytest.mark.parametrize("has_view", [False, True])
@pytest.mark.parametrize("damage", ["truncated", "removed"])
def test_a_damaged_file_is_fetched_again(
    damage: str,
    has_view: bool,
    folder: Path,
    cache: Path,
    bucket: str,
    s3_client: S3Client,
    reader: CountingReader,
) -> None:
    upload_files(s3_client, bucket, folder, "set/")
    originals = sorted(path.read_bytes() for path in folder.rglob("*.png"))
    reference = inspect_dataset(f"s3://{bucket}/set/", "detect", cache, reader).reference
    if has_view:
        materialize(reference, cache, reader)
    before = reader.reads
    image = cache / reference.fingerprint / "content" / "images" / "train" / "0.png"
    if damage == "truncated":
        truncate(image)
    else:
        image.unlink()
    assert images(materialize(reference, cache, reader)) == originals
    assert reader.reads == before + (damage == "truncated")


@pytest.mark.parametrize("damage", ["truncated", "removed"])
def test_a_damaged_file_of_a_zip_is_unpacked_again(
    damage: str, folder: Path, cache: Path, bucket: str, s3_client: S3Client, reader: CountingReader
) -> None:
    originals = sorted(path.read_bytes() for path in folder.rglob("*.png"))
    labels = sorted(path.read_bytes() for path in folder.rglob("*.txt"))
    source = upload_zip(s3_client, bucket, folder)
    reference = inspect_dataset(source, "detect", cache, reader).reference
    materialize(reference, cache, reader)
    home, before = cache / reference.fingerprint, reader.reads
    for name in ("images/train/0.png", "labels/train/1.txt"):
        (file,) = (home / "content").rglob(name)
        truncate(file) if damage == "truncated" else file.unlink()
    assert inspect_dataset(source, "detect", cache, reader).reference == reference
    local = materialize(reference, cache, reader)
    assert images(local) == originals
    assert sorted(path.read_bytes() for path in local.data.parent.rglob("*.txt")) == labels
    assert reader.reads == before + 1, "the zip was fetched once"
    assert not {"repair", "repair.zip", "content.zip"} & {path.name for path in home.iterdir()}


def test_a_zip_that_an_earlier_release_unpacked_under_other_names_is_replaced(
    folder: Path, cache: Path, bucket: str, s3_client: S3Client, reader: CountingReader
) -> None:
    """Earlier releases read UTF-8 names as code page 437 if the zip did not say so, and wrote no listing."""
    originals = sorted(path.read_bytes() for path in folder.rglob("*.png"))
    source = upload_zip(s3_client, bucket, folder)
    reference = inspect_dataset(source, "detect", cache, reader).reference
    home = cache / reference.fingerprint
    for file in [path for path in (home / "content").rglob("*.*") if path.suffix in {".png", ".txt"}]:
        file.rename(file.with_name(f"ê{file.name}"))
    (home / "listing.jsonl.gz").unlink()
    assert inspect_dataset(source, "detect", cache, reader).reference == reference
    assert images(materialize(reference, cache, reader)) == originals
    assert not {"repair", "damaged"} & {path.name for path in home.iterdir()}


@pytest.mark.parametrize("listing", ["removed", "truncated"])
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "prefix"])
def test_lost_files_are_noticed_even_if_the_listing_beside_them_is_lost(
    is_zip: bool,
    listing: str,
    folder: Path,
    cache: Path,
    bucket: str,
    s3_client: S3Client,
    reader: CountingReader,
) -> None:
    originals = sorted(path.read_bytes() for path in folder.rglob("*.png"))
    upload_files(s3_client, bucket, folder, "set/")
    source = upload_zip(s3_client, bucket, folder) if is_zip else f"s3://{bucket}/set/"
    reference = inspect_dataset(source, "detect", cache, reader).reference
    home = cache / reference.fingerprint
    for name in ("images/train/0.png", "labels/train/1.txt"):
        next((home / "content").rglob(name)).unlink()
    if listing == "removed":
        (home / "listing.jsonl.gz").unlink()
    else:
        os.truncate(home / "listing.jsonl.gz", 30)
    local = materialize(reference, cache, reader)
    assert images(local) == originals
    assert len(list(local.data.parent.rglob("*.txt"))) == len(originals)
    before = reader.reads
    materialize(reference, cache, None)
    assert reader.reads == before, "the listing was restored"


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "prefix"])
def test_a_copy_of_an_earlier_release_is_used_if_s3_no_longer_has_what_was_checked(
    is_zip: bool, folder: Path, cache: Path, bucket: str, s3_client: S3Client, reader: CountingReader
) -> None:
    """Earlier releases wrote no listing, so their copies are fetched again if possible."""
    originals = sorted(path.read_bytes() for path in folder.rglob("*.png"))
    upload_files(s3_client, bucket, folder, "set/")
    source = upload_zip(s3_client, bucket, folder) if is_zip else f"s3://{bucket}/set/"
    reference = inspect_dataset(source, "detect", cache, reader).reference
    home = cache / reference.fingerprint
    (home / "listing.jsonl.gz").unlink()
    add_image(folder)
    upload_files(s3_client, bucket, folder, "set/")
    upload_zip(s3_client, bucket, folder)
    local = materialize(reference, cache, reader)
    assert images(local) == originals
    shutil.rmtree(local.data.parent)
    next((home / "content").rglob("labels/train/1.txt")).unlink()
    with pytest.raises(DatasetChanged, match="has changed since check_dataset checked it"):
        materialize(reference, cache, reader)


def test_a_view_in_use_gets_a_replaced_file_only_after_it_is_released(
    folder: Path, cache: Path, bucket: str, s3_client: S3Client, reader: CountingReader
) -> None:
    upload_files(s3_client, bucket, folder, "set/")
    originals = sorted(path.read_bytes() for path in folder.rglob("*.png"))
    reference = inspect_dataset(f"s3://{bucket}/set/", "detect", cache, reader).reference
    with materializing(reference, cache, reader, roots_beside(cache)) as used:
        truncate(cache / reference.fingerprint / "content" / "images" / "train" / "0.png")
        other = materialize(reference, cache, reader)
        assert other.data != used.data
        assert images(other) == originals
        assert len(images(used)) == len(originals), "no image was removed from the view in use"
    again = materialize(reference, cache, reader)
    assert again.data == used.data
    assert images(again) == originals
    assert not list(cache.glob("*/*.outdated"))


class Breaking(Objects):
    """A server that answers only requests that start at the first byte of an object."""

    def read(self, stored: StoredObject, start: int, stop: int) -> Iterator[bytes]:
        if start:
            raise StoreUnavailable("The server does not answer")
        return super().read(stored, start, stop)


def test_a_file_whose_second_fetch_was_incomplete_is_still_damaged(cache: Path) -> None:
    """A file above 32 MiB is downloaded in parts into a file that has its full size from the start."""
    objects = {"set/": {"large": b"content " * (4 * 1024**2 + 1)}}
    origin, opened, roots = S3Tree("bucket", "set/"), DatasetCache.open(cache), DatasetRoots()
    with locate(origin, "set", opened, Objects(objects), roots) as (place, _):
        large = place.path / "large"
    truncate(large)
    with pytest.raises(StoreUnavailable), locate(origin, "set", opened, Breaking(objects), roots):
        pass
    with locate(origin, "set", opened, Objects(objects), roots):
        assert large.read_bytes() == objects["set/"]["large"]
    assert {path.name for path in large.parent.parent.iterdir()} == {"content", "listing.jsonl.gz", "lock"}


def test_the_least_recently_used_dataset_is_evicted_unless_it_is_in_use(
    folder: Path, cache: Path, bucket: str, s3_client: S3Client, reader: CountingReader
) -> None:
    def check(name: str, limit: int) -> str:
        upload_zip(s3_client, bucket, folder, f"{name}.zip")
        add_image(folder)
        source = f"s3://{bucket}/{name}.zip"
        reference = inspect_dataset(source, "detect", cache, reader, cache_limit=limit).reference
        references[name] = reference
        return reference.fingerprint

    references: dict[str, DatasetReference] = {}
    first, second = check("first", 10**12), check("second", 10**12)
    with materializing(references["first"], cache, reader, roots_beside(cache)):
        third = check("third", 1)
        assert {path.parent.name for path in cache.glob("*/content")} == {first, third}, second
        assert len(images(materialize(references["first"], cache, None))) == 5


def test_files_shared_with_a_new_version_are_not_evicted_with_the_old_one(
    folder: Path, cache: Path, bucket: str, s3_client: S3Client, reader: CountingReader
) -> None:
    upload_files(s3_client, bucket, folder, "set/")
    first = inspect_dataset(f"s3://{bucket}/set/", "detect", cache, reader).reference
    add_image(folder)
    upload_files(s3_client, bucket, folder, "set/")
    fetched = reader.reads
    inspect_dataset(f"s3://{bucket}/set/", "detect", cache, reader, cache_limit=1)
    assert reader.reads == fetched + 2
    assert not (cache / first.fingerprint).exists()


def test_two_processes_fetch_two_datasets_with_the_same_files_simultaneously(
    s3: S3,
    folder: Path,
    cache: Path,
    bucket: str,
    s3_client: S3Client,
    reader: CountingReader,
    tmp_path: Path,
) -> None:
    references = []
    for prefix in ("one/", "two/"):
        upload_files(s3_client, bucket, folder, prefix)
        references.append(
            inspect_dataset(f"s3://{bucket}/{prefix}", "detect", tmp_path / "checked", reader).reference
        )
        add_image(folder)
    processes = [start_fetcher(s3, reference, cache, hang=False) for reference in references]
    reads = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert 13 <= sum(reads) <= 11 + 13
    for reference in references:
        content = cache / reference.fingerprint / "content"
        assert all(path.stat().st_nlink >= 2 for path in content.rglob("*") if path.is_file())
        materialize(reference, cache, None)


@pytest.mark.parametrize("known", [False, True])
def test_an_object_whose_name_is_also_a_folder_is_refused(known: bool, cache: Path) -> None:
    """SeaweedFS does not store such objects; other servers do."""
    reader = Objects({"set/": {"a": b"first", "a/b": b"second"}, "known/": {"c": b"first"}})
    opened, roots = DatasetCache.open(cache), DatasetRoots()
    if known:
        with locate(S3Tree("bucket", "known/"), "known", opened, reader, roots):
            pass
    with (
        pytest.raises(DatasetError, match=r"object whose name is also a folder of other objects: a\."),
        locate(S3Tree("bucket", "set/"), "set", opened, reader, roots),
    ):
        pass
    assert len(list(cache.glob("*/content"))) == known
