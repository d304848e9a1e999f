"""Files are stored by content: one copy on disk however many datasets use it, and never a partial file."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from include.datasets.caching.file_store import FileStore, compute_object_key
from include.datasets.fingerprint import compute_file_fingerprint, compute_tree_fingerprint
from include.datasets.sources import S3File
from include.datasets.storage import StoredObject

KEY = "ab" * 32


@pytest.fixture
def file_store(tmp_path: Path) -> FileStore:
    (tmp_path / "data").mkdir()
    return FileStore(tmp_path / "files")


def sizes(store: FileStore) -> dict[str, int]:
    """Return the sizes of the stored files by key."""
    entries = (entry for entry in store.list_files() if entry.is_file(follow_symlinks=False))
    return {entry.name: entry.stat().st_size for entry in entries}


def written(path: Path, content: bytes = b"content") -> Path:
    path.write_bytes(content)
    return path


def test_two_datasets_share_one_read_only_file(file_store: FileStore, tmp_path: Path) -> None:
    first, second = tmp_path / "data" / "first", tmp_path / "data" / "second"
    assert not file_store.link(KEY, 7, str(first))
    file_store.keep(written(first), KEY)
    assert sizes(file_store) == {KEY: 7}
    assert file_store.link(KEY, 7, str(second))
    assert Path(first).samefile(second)
    assert stat.S_IMODE(second.stat().st_mode) == 0o444


def test_a_file_that_two_processes_fetched_is_kept_once(file_store: FileStore, tmp_path: Path) -> None:
    first, second = (written(tmp_path / "data" / name) for name in ("first", "second"))
    file_store.keep(first, KEY)
    file_store.keep(second, KEY)
    file_store.keep(second, KEY)
    assert Path(first).samefile(second)
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"first", "second"}


def test_a_damaged_file_is_not_used_and_is_replaced(file_store: FileStore, tmp_path: Path) -> None:
    first, second, third = (tmp_path / "data" / name for name in ("first", "second", "third"))
    file_store.keep(written(first), KEY)
    (stored,) = file_store.list_files()
    Path(stored.path).chmod(0o600)  # a failing disk needs no write permission to damage a file
    with Path(stored.path).open("r+b") as file:
        file.truncate(3)
    assert sizes(file_store) == {KEY: 3}
    assert not file_store.link(KEY, 7, str(second))
    file_store.keep(written(second), KEY)
    assert file_store.link(KEY, 7, str(third))
    assert third.read_bytes() == b"content"


def test_a_damaged_file_is_replaced_by_one_that_was_fetched_at_the_same_time(
    file_store: FileStore, tmp_path: Path
) -> None:
    file_store.keep(written(tmp_path / "data" / "damaged", b"half"), KEY)
    file_store.keep(written(tmp_path / "data" / "whole"), KEY)
    assert sizes(file_store) == {KEY: 7}


def test_more_files_can_share_content_than_the_file_system_allows_links(
    file_store: FileStore, tmp_path: Path
) -> None:
    """ext4 allows 65,000 links; where more are allowed, the test shows only that all files are linked."""
    folder = tmp_path / "data"
    file_store.keep(written(folder / "first"), KEY)
    for number in range(65_010):
        assert file_store.link(KEY, 7, f"{folder}/{number}")
    assert {(folder / str(number)).read_bytes() for number in (0, 64_997, 64_998, 64_999, 65_009)} == {
        b"content"
    }
    assert len({(folder / str(number)).stat().st_ino for number in range(65_010)}) <= 2
    shutil.rmtree(folder)


def test_a_file_is_kept_although_its_content_has_the_maximum_number_of_links(
    file_store: FileStore, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    first = written(folder / "first")
    file_store.keep(first, KEY)
    with suppress(OSError):  # raised by ext4, which allows 65,000 links
        for number in range(65_010):
            os.link(first, f"{folder}/{number}")
    for name in ("second", "third"):
        file_store.keep(written(folder / name), KEY)
        assert (folder / name).read_bytes() == b"content"
    assert (folder / "second").samefile(folder / "third"), "later files are links again"
    shutil.rmtree(folder)


@pytest.fixture
def other_disk() -> Iterator[Path]:
    if Path("/dev/shm").stat().st_dev == Path(tempfile.gettempdir()).stat().st_dev:  # noqa: S108
        pytest.skip("needs two file systems")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_without_links_each_dataset_has_its_own_copy_of_a_file(
    file_store: FileStore, tmp_path: Path, other_disk: Path
) -> None:
    file_store.keep(written(other_disk / "elsewhere"), KEY)
    assert not sizes(file_store)
    file_store.keep(written(tmp_path / "data" / "here"), KEY)
    file_store.keep(other_disk / "elsewhere", KEY)
    assert (other_disk / "elsewhere").read_bytes() == b"content"
    assert file_store.link(KEY, 7, f"{other_disk}/copy")
    assert (other_disk / "copy").read_bytes() == b"content"
    assert sizes(file_store) == {KEY: 7}


def zip_file(stored: StoredObject) -> str:
    return compute_file_fingerprint(S3File("bucket", "data.zip"), stored)


def export(stored: StoredObject) -> str:
    return compute_file_fingerprint(S3File("bucket", "data.ndjson"), stored)


def tree_of_one(stored: StoredObject) -> str:
    return compute_tree_fingerprint([("data.yaml", stored)], None)


@pytest.mark.parametrize("identify", [compute_object_key, zip_file, export, tree_of_one])
def test_equal_etags_mean_equal_content_only_if_they_are_hashes(
    identify: Callable[[StoredObject], str],
) -> None:
    def key(etag: str, name: str, size: int = 1) -> str:
        return identify(StoredObject("bucket", name, size, etag))

    md5 = "d41d8cd98f00b204e9800998ecf8427e"
    assert key(md5, "a") == key(md5, "b")
    assert key(f"{md5}-2", "a") == key(f"{md5}-2", "b")
    assert len({key(md5, "a"), key(f"{md5}-2", "a"), key(md5, "a", size=2)}) == 3
    assert key("1", "a") != key("1", "b")
