"""Untrusted zip files are unpacked safely, or refused before anything is written."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from include.datasets.caching.archive import UnpackLimits, unpack
from include.datasets.disk import require_room, translate_disk_errors
from include.datasets.errors import DatasetError, DatasetNotHere
from include.datasets.names import split_safely

SOURCE = "s3://bucket/data.zip"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "outer" / "target"
    folder.mkdir(parents=True)
    return folder


def archive(target: Path, entries: dict[str | zipfile.ZipInfo, bytes]) -> Path:
    path = target.parents[1] / "data.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in entries.items():
            opened.writestr(name, content)
    return path


def special(name: str, kind: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system = 3
    entry.external_attr = (kind | 0o777) << 16
    return entry


def unpack_into(target: Path, path: Path, limits: UnpackLimits) -> None:
    unpack(str(path), str(target), SOURCE, str(target.parents[1] / "files"), limits)


def refusal(path: Path, target: Path, limits: UnpackLimits | None = None) -> str:
    with pytest.raises(DatasetError) as refused:
        unpack_into(target, path, limits or UnpackLimits())
    assert SOURCE in str(refused.value)
    return str(refused.value)


def test_dataset_files_are_unpacked_and_all_others_are_skipped(target: Path) -> None:
    entries: dict[str | zipfile.ZipInfo, bytes] = {
        "set/images/a.png": b"a",
        "set/labels/a.txt": b"0 .5 .5 1 1",
        "set/이미지/b.png": b"b",
        "./set/c.txt": b"c",
        "set/empty/": b"",
        "__MACOSX/set/._a.png": b"shadow",
        "set/.DS_Store": b"finder",
        "set/labels.cache": b"a pickle",
        "set/images/a.npy": b"another picture",
    }
    unpack_into(target, archive(target, entries), UnpackLimits())
    files = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert files == {"set/images/a.png", "set/labels/a.txt", "set/이미지/b.png", "set/c.txt"}


@pytest.mark.parametrize(
    "name",
    ["../evil", "a/../../evil", "/evil", "C:/evil", "c:evil", "..\\evil", "a\\evil", "a//evil", "a/\nevil"],
)
def test_a_name_that_may_point_outside_the_target_is_refused_before_a_byte_is_written(
    name: str, target: Path
) -> None:
    message = refusal(archive(target, {"good.txt": b"good", name: b"evil"}), target)
    assert "not an allowed name" in message
    assert {path.name for path in target.parents[1].rglob("*")} == {"outer", "target", "data.zip"}


def _without_utf_8_flag(path: Path, name: str) -> None:
    """Clear the flag that says that a name is in UTF-8: `zip` on Linux and the Finder do not set it."""
    data, encoded = bytearray(path.read_bytes()), name.encode()
    for header, flags in ((30, 6), (46, 8)):  # before the file, and in the list of files
        start = data.index(encoded) if header == 30 else data.rindex(encoded)
        data[start - header + flags + 1] &= ~0x08
    path.write_bytes(data)


def test_names_in_utf_8_are_read_even_if_the_zip_does_not_say_so(target: Path) -> None:
    names = ["고양이/é.png", "data.yaml"]
    path = archive(target, dict.fromkeys(names, b"content"))
    _without_utf_8_flag(path, names[0])
    with zipfile.ZipFile(path) as opened:
        assert names[0] not in opened.namelist()
    unpack_into(target, path, UnpackLimits())
    assert {str(file.relative_to(target)) for file in target.rglob("*.*")} == set(names)


def test_a_name_in_another_encoding_is_kept_as_zipfile_decodes_it(target: Path) -> None:
    path = archive(target, {"ééé.txt": b"content"})
    _without_utf_8_flag(path, "ééé.txt")
    path.write_bytes(path.read_bytes().replace("ééé".encode(), "고양이".encode("cp949")))
    unpack_into(target, path, UnpackLimits())
    assert [file.name for file in target.iterdir()] == ["고양이".encode("cp949").decode("cp437") + ".txt"]


def test_a_name_with_a_nul_byte_is_refused(target: Path) -> None:
    path = archive(target, {"good_evil.txt": b"evil"})
    path.write_bytes(path.read_bytes().replace(b"good_evil", b"good\0evil"))
    assert "control character" in refusal(path, target)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_are_refused(kind: int, target: Path) -> None:
    entries: dict[str | zipfile.ZipInfo, bytes] = {special("images", kind): b"/etc", "images/passwd": b"evil"}
    assert "'images', a link or device" in refusal(archive(target, entries), target)
    assert not list(target.iterdir())


def test_an_archive_that_expands_too_much_is_refused(target: Path) -> None:
    bomb = archive(target, {"zeros": b"\0" * 10_000_000})
    assert bomb.stat().st_size < 20_000
    assert "larger than" in refusal(bomb, target, UnpackLimits(size=9_999_999))
    unpack_into(target, bomb, UnpackLimits(size=10_000_000))


def test_an_archive_that_lies_about_sizes_is_refused(target: Path) -> None:
    bomb = archive(target, {"zeros": b"\0" * 10_000_000})
    size, lie = (10_000_000).to_bytes(4, "little"), (100).to_bytes(4, "little")
    bomb.write_bytes(bomb.read_bytes().replace(size, lie))
    assert "not a complete zip file" in refusal(bomb, target, UnpackLimits(size=1000))
    assert sum(path.stat().st_size for path in target.iterdir()) <= 1000


def test_too_many_files_are_refused(target: Path) -> None:
    path = archive(target, {f"{number}.txt": b"" for number in range(11)})
    assert "11 files, more than the limit of 10" in refusal(path, target, UnpackLimits(files=10))


def _encrypted(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    path.write_bytes(data)


def _bad_content(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[40] ^= 0xFF
    path.write_bytes(data)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:-30]), "not a complete zip file"),
    "no zip": (lambda path: path.write_text("<html>not found</html>"), "not a complete zip file"),
    "empty": (lambda path: path.write_bytes(b""), "not a complete zip file"),
    "damaged": (_bad_content, "not a complete zip file"),
    "encrypted": (_encrypted, "is encrypted"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_or_encrypted_archive_is_refused(fault: str, target: Path) -> None:
    damage, reason = BROKEN[fault]
    path = archive(target, {"a.txt": b"some words that can be packed, some words that can be packed"})
    damage(path)
    assert reason in refusal(path, target)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_with_the_same_file_twice_is_refused(target: Path) -> None:
    path = archive(target, {"a.txt": b"first"})
    with zipfile.ZipFile(path, "a") as opened:
        opened.writestr("a.txt", b"second")
    assert "'a.txt' twice" in refusal(path, target)


@pytest.mark.parametrize("names", [("a.txt", "a.txt/b.txt"), ("a.txt/b.txt", "a.txt")])
def test_an_archive_in_which_a_file_is_also_a_folder_is_refused(names: tuple[str, str], target: Path) -> None:
    path = archive(target, dict.fromkeys(names, b"content"))
    assert f"a file and a folder of the same name, in {names[1]!r}; rename one" in refusal(path, target)


def test_unusual_compression_is_refused(target: Path) -> None:
    path = archive(target, {})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as opened:
        opened.writestr("a.txt", b"packed")
    assert "ordinary deflate" in refusal(path, target)


def test_a_name_that_no_file_system_accepts_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than 255 bytes"):
        split_safely("ㅎ" * 86)


def test_a_disk_without_enough_space_is_named_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotHere, match=rf"needs 1073741824\.00 GiB in {tmp_path}.* set TRAINING_ROOT"):
        require_room(tmp_path, 1 << 60, SOURCE)


def test_a_disk_that_fills_up_during_unpacking_is_named(tmp_path: Path) -> None:
    full = Path("/dev/full")
    with (
        pytest.raises(DatasetNotHere, match=f"cannot be stored in {tmp_path}: the disk is full"),
        translate_disk_errors(tmp_path, SOURCE),
    ):
        full.write_text("a byte too many")
