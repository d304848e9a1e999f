"""Small files that expand to gigabytes, and large files, are refused with a reason in 256 MiB of memory."""

from __future__ import annotations

import os
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from include import limits
from include.datasets.caching.archive import UnpackLimits, unpack
from include.datasets.confinement import ProcessLimits, run_confined
from include.datasets.errors import DatasetError
from include.datasets.examination import examine
from include.datasets.layouts.samples import DatasetLocation
from include.datasets.names import split_safely
from tests.support.dataset_steps import check_dataset, materialize
from tests.support.examined_folders import refuse_each
from tests.support.tiny_datasets import build

LITTLE = 256 * limits.MIB
LONGEST_SENTENCE = 600


def refusal(folder: Path, task: str = "detect", memory: int = LITTLE) -> str:
    """Return the reason why the check refuses the dataset; the check may use at most `memory` bytes."""
    path = str(folder)
    location = DatasetLocation(folder, path, folder).as_json()
    with pytest.raises(DatasetError) as refused:
        run_confined(examine, location, task, None, {}, source=path, limits=ProcessLimits(memory))
    return str(refused.value)


def refusals(folders: dict[str, Path]) -> dict[str, str]:
    """Return the reason why the check refuses each dataset; one process with little memory reads them all."""
    paths = [str(folder) for folder in folders.values()]
    found = run_confined(refuse_each, paths, "detect", source="bombs", limits=ProcessLimits(LITTLE))
    return dict(zip(folders, found, strict=True))


def sentence(folder: Path, task: str = "detect") -> str:
    return require_sentence(refusal(folder, task))


def require_sentence(message: str) -> str:
    assert len(message) < LONGEST_SENTENCE, "the message is a sentence, not the file's content"
    assert "reading it needs more than" not in message
    assert "\n" not in message
    return message


def _aliases(levels: int = 9) -> str:
    letters = "abcdefghijklmn"
    lines = [f"{letters[0]}: &{letters[0]} [{', '.join(['lol'] * 9)}]"]
    for before, after in pairwise(letters[:levels]):
        lines.append(f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]")
    return "\n".join([*lines, f"names: *{letters[levels - 1]}"])


def _merges() -> str:
    lines = ["a: &a {k0: v, k1: v, k2: v}"]
    lines += [f"{n}: &{n} {{<<: [{', '.join([f'*{b}'] * 20)}]}}" for b, n in ("ab", "bc", "cd", "de")]
    return "\n".join(lines)


KEYPOINTS = "kpt_shape: [4, 3]\n"
YAML_BOMBS: dict[str, tuple[str, str]] = {
    "aliases of aliases": (
        _aliases(),
        "more than 100,000 values, with aliases (*name) expanded",
    ),
    "merges of merges": (_merges(), "more than 100,000 values"),
    "long text by aliases": (
        f"t: &t {'x' * 60_000}\nnames: [{', '.join(['*t'] * 200)}]",
        "more than 10 MiB of text",
    ),
    "an alias of itself": ("names: &a [*a]", "line 1: an alias refers to the value that contains it"),
    "ten million classes": ("nc: 10000000", "nc: 10000000 exceeds the limit of 25,000 classes"),
    "two billion classes": ("nc: 2000000000", "nc: 2000000000 exceeds the limit of 25,000 classes"),
    "classes as a float": ("nc: 1.0e+300", "nc: 1e+300 exceeds the limit of 25,000 classes"),
    "infinitely many classes": ("nc: .inf", "nc: inf must be the number of classes"),
    "many names": (f"names: [{'a, ' * 25_001}]", "names: 25,001 classes exceed the limit of 25,000"),
    "a number of 5,000 digits": (f"nc: {'9' * 5000}", "a number of 5,000 digits; the limit is 18"),
    "such a number as a name": (f"names: [{'9' * 5000}]", "a number of 5,000 digits"),
    "such a number as a key": (f"names:\n  ? {'9' * 5000}\n  : a", "a number of 5,000 digits"),
    "a number in base 60": (f"nc: 1{':59' * 2000}", "the limit is 18"),
    "a key that is infinite": ("names: {.inf: a}", "names: the keys must be class ids"),
    "a long class name": (f"names: [{'a' * 256}]", "class 0 has no usable name: 'aaa"),
    "a class name with NUL": (r'names: ["a\0b"]', "none of them a control character"),
    "a class name that is a mapping": ("names: [{a: b}]", "class 0 has no usable name: {'a': 'b'}"),
    "nested 800 deep": ("names: " + "[" * 800 + "]" * 800, "nested more than 20 levels deep"),
    "nested 100,000 deep": ("{a: " * 100_000, "nested more than 20 levels deep"),
    "a long value": (f"train: {'x' * 70_000}", "a value has more than 65,536 characters"),
    "a long path": (f"names: [a]\ntrain: {'x/' * 2000}", "a path of at most 1024 bytes"),
    "a long file name": (f"names: [a]\ntrain: {'x' * 300}", "shorten the name"),
    "a path with NUL": ('names: [a]\ntrain: "a\\0b"', r"train: 'a\x00b' must be a folder"),
    "a date that does not exist": ("names: [2001-99-99]", "is malformed (ValueError); put dates"),
    "a timestamp that is none": ("names: [!!timestamp x]", "is malformed (AttributeError)"),
    "a truth that is none": ("nc: !!bool x", "is malformed (KeyError)"),
    "a Python object": ("names: [!!python/name:os.system x]", "not valid YAML at line 1"),
    "a list as a key": ("{[a]: b}", "not valid YAML at line 1, column 2"),
    "a secret beside an error": ("password: hunter2 [\n  a: : b", "not valid YAML at line"),
    "a control character": ("names: [a\x01]", "contains a control character"),
    "not UTF-8": ("names: [\udcff]", "not valid UTF-8 (byte 8)"),
    "a billion keypoints": (f"names: [a]\nkpt_shape: [{10**9}, 3]\nflip_idx: [0]", "at most 1,000 keypoints"),
    "a short flip_idx": (f"names: [a]\n{KEYPOINTS}flip_idx: [0]", "flip_idx: [0] must name each of the 4"),
    "keypoint names of two kinds": (f"names: [a]\n{KEYPOINTS}kpt_names: {{0: [a], b: [a]}}", "kpt_names: "),
    "keypoint names that are dates": (f"names: [a]\n{KEYPOINTS}kpt_names: [2001-01-01]", "kpt_names: "),
    "sigmas that are texts": (f"names: [a]\n{KEYPOINTS}kpt_oks_sigmas: [a, b, c, d]", "4 positive numbers"),
    "a billion channels": (f"names: [a]\nchannels: {10**9}", "channels: 1000000000 must be the number"),
}


@pytest.fixture(scope="module")
def yaml_refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folders = {bomb: tmp_path_factory.mktemp("yaml") for bomb in YAML_BOMBS}
    for bomb, folder in folders.items():
        text, _ = YAML_BOMBS[bomb]
        build("detect", folder, train=1, val=1)
        given = {line.partition(":")[0] for line in text.splitlines()}
        rest = [
            line for line in ("train: images/train", "val: images/val") if line.partition(":")[0] not in given
        ]
        content = "\n".join([text, *rest]) if not text.startswith("{") else text
        (folder / "data.yaml").write_bytes(content.encode("utf-8", "surrogateescape"))
    return refusals(folders)


@pytest.mark.parametrize("bomb", YAML_BOMBS)
def test_a_data_yaml_that_expands_too_much_is_refused_with_a_reason(
    bomb: str, yaml_refusals: dict[str, str]
) -> None:
    message = require_sentence(yaml_refusals[bomb])
    assert YAML_BOMBS[bomb][1] in message
    assert "data.yaml" in message or "shorten the name" in message
    assert "hunter2" not in message


def test_a_data_yaml_that_is_too_large_is_not_read(folder: Path) -> None:
    build("detect", folder, train=1, val=1)
    os.truncate(folder / "data.yaml", 300 * limits.MIB)
    assert "the file is 300 MiB, and the limit is 10 MiB" in sentence(folder)


def _sparse(size: int) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        path.touch()
        os.truncate(path, size)

    return write


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


BOX = "0 0.5 0.5 0.2 0.2"
LABEL_BOMBS: dict[str, tuple[Callable[[Path], object], str]] = {
    "60 MB": (_sparse(60_000_000), "labels/train/0.txt: the file is 57.2 MiB, and the limit is 16 MiB"),
    "one long line": (
        lambda path: path.write_text("0 " * 5_000_000),
        "line 1 exceeds the limit of 524,288 characters",
    ),
    "many lines": (lambda path: path.write_text(f"{BOX}\n" * 100_001), "exceeds the limit of 100,000 lines"),
    "many empty lines": (lambda path: path.write_text("\f" * 100_001), "exceeds the limit of 100,000 lines"),
    "many columns": (
        lambda path: path.write_text("0 " * 30_000),
        "0.txt:1: the line has 30,000 columns, more",
    ),
    "a long number": (lambda path: path.write_text(f"0 {'9' * 5000} 0 0 0"), "99999', not a finite number"),
    "a long word": (lambda path: path.write_text(f"0 {'x' * 5000} 0 0 0"), "column 2 is 'xxx"),
    "a large class": (lambda path: path.write_text(f"{'9' * 300} 0.5 0.5 0.2 0.2"), "99999', too large"),
    "not text": (lambda path: path.write_bytes(b"\xff\xfe" * 1000), "0.txt: it is not valid UTF-8"),
}


@pytest.fixture(scope="module")
def label_refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folders = {bomb: tmp_path_factory.mktemp("label") for bomb in LABEL_BOMBS}
    for bomb, folder in folders.items():
        build("detect", folder, train=1, val=1)
        LABEL_BOMBS[bomb][0](folder / "labels" / "train" / "0.txt")
    return refusals(folders)


@pytest.mark.parametrize("bomb", LABEL_BOMBS)
def test_a_label_file_that_exceeds_a_limit_is_named(bomb: str, label_refusals: dict[str, str]) -> None:
    message = label_refusals[bomb]
    assert LABEL_BOMBS[bomb][1] in message
    assert len(message) < LONGEST_SENTENCE


def test_reading_a_label_file_stops_after_a_hundred_problems(folder: Path) -> None:
    build("detect", folder, train=1, val=1)
    (folder / "labels" / "train" / "0.txt").write_text("9 0.5 0.5 0.1 0.1\n" * 90_000)
    assert "has 101 problems" in refusal(folder)


def test_a_check_stops_after_ten_thousand_problems(folder: Path) -> None:
    build("detect", folder, train=1, val=1)
    for number in range(150):
        (folder / "images" / "train" / f"{number}.png").write_bytes(b"")
        (folder / "labels" / "train" / f"{number}.txt").write_text("x\n" * 100)
    assert "has 10099 problems" in refusal(folder).splitlines()[0]


LIST_BOMBS: dict[str, tuple[Callable[[Path], object], str]] = {
    "300 MiB": (_sparse(300 * limits.MIB), "the file is 300 MiB, and the limit is 256 MiB"),
    "one long line": (_sparse(limits.MIB), "line 1 exceeds the limit of 1,024 characters"),
    "not text": (lambda path: path.write_bytes(b"\xff" * 1000), "it is not valid UTF-8"),
    "a named pipe": (_pipe, "it is not a regular file"),
}


@pytest.fixture(scope="module")
def list_refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folders = {bomb: tmp_path_factory.mktemp("list") for bomb in LIST_BOMBS}
    for bomb, folder in folders.items():
        data = build("detect", folder, train=1, val=1)
        data.write_text("train: train.txt\nval: images/val\nnames: [box, arrow]\n")
        (folder / "train.txt").touch()
        LIST_BOMBS[bomb][0](folder / "train.txt")
    return refusals(folders)


@pytest.mark.parametrize("bomb", LIST_BOMBS)
def test_a_list_of_images_that_exceeds_a_limit_is_named(bomb: str, list_refusals: dict[str, str]) -> None:
    message = require_sentence(list_refusals[bomb])
    assert "train.txt is not a list of images" in message
    assert LIST_BOMBS[bomb][1] in message


def test_a_list_of_missing_images_stops_after_a_hundred_problems(folder: Path) -> None:
    data = build("detect", folder, train=1, val=1)
    data.write_text("train: train.txt\nval: images/val\nnames: [box, arrow]\n")
    (folder / "train.txt").write_text("nothing.png\n" * 100_000)
    assert "has 101 problems" in refusal(folder)


@pytest.fixture
def nested(folder: Path) -> Iterator[Path]:
    """Yield a dataset with 1,100 nested folders, more than Python's recursion limit, but within PATH_MAX."""
    path = folder / "train"
    path.mkdir(parents=True)
    for _ in range(1100):
        path /= "d"
        path.mkdir()
    yield folder
    subprocess.run(["rm", "-rf", folder], check=True)  # shutil.rmtree would recurse too deeply


def test_folders_that_are_nested_too_deep_are_refused(nested: Path) -> None:
    assert "more than 64 nested folders" in sentence(nested)
    (nested / "val").mkdir()
    assert "more than 64 nested folders" in sentence(nested, "classify")
    (nested / "data.yaml").write_text("train: train\nval: train\nnames: [a]\n")
    assert "more than 64 nested folders" in sentence(nested)


def test_a_link_to_itself_is_refused(folder: Path) -> None:
    data = build("detect", folder, train=1, val=1)
    (folder / "circle").symlink_to("circle")
    data.write_text("train: circle/x\nval: images/val\nnames: [box, arrow]\n")
    assert "remove the links that form a loop" in sentence(folder)


def test_a_class_folder_whose_name_is_not_valid_utf_8_is_refused(folder: Path) -> None:
    build("classify", folder, train=2, val=2)
    for split in ("train", "val"):
        (folder / split / "box").rename(folder / split / "b\udcffx")
    assert "contains a control character or is not UTF-8" in sentence(folder, "classify")


IMAGE_BOMBS: dict[str, tuple[Callable[[Path], object], str]] = {
    "200 megapixels": (
        lambda path: Image.new("1", (20_000, 10_000)).save(path),
        "it exceeds the limit of 178 megapixels; scale it down",
    ),
    "2 GiB": (_sparse(2 * limits.GIB), "the file is 2 GiB, and the limit is 1 GiB"),
}


@pytest.mark.parametrize("bomb", IMAGE_BOMBS)
def test_an_image_that_is_too_large_is_named_with_the_limit(bomb: str, folder: Path) -> None:
    write, reason = IMAGE_BOMBS[bomb]
    build("classify", folder, train=2, val=2)
    write(folder / "train" / "box" / "0.png")
    assert f"train/box/0.png: {reason}" in refusal(folder, "classify")


@pytest.mark.parametrize("bits", [8, 24], ids=["mapped", "decoded"])
def test_an_image_that_takes_too_much_memory_is_refused_permanently(bits: int, folder: Path) -> None:
    build("classify", folder, train=2, val=2)
    side, colours = 13_000, 1024 if bits == 8 else 0
    size = 54 + colours + side * side * bits // 8
    header = struct.pack("<2s3L", b"BM", size, 0, 54 + colours)
    header += struct.pack("<L2l2H6L", 40, side, side, 1, bits, 0, 0, 0, 0, 0, 0)
    palette = b"".join(bytes([grey] * 3) + b"\0" for grey in range(colours // 4))
    (folder / "train" / "box" / "0.png").write_bytes(header + palette)
    os.truncate(folder / "train" / "box" / "0.png", size)
    message = refusal(folder, "classify", 128 * limits.MIB)
    # The message depends on the other files that are being read at that moment.
    assert (
        "0.png: decoding it takes more memory" in message or "reading it needs more than 128 MiB" in message
    )


def test_a_large_but_ordinary_dataset_passes_the_check(folder: Path, tmp_path: Path) -> None:
    data = build("detect", folder, train=2, val=1)
    names = "".join(f'  {number}: "{number:05d}{"한" * 95}"\n' for number in range(10_000))
    data.write_text(f"train: images/train\nval: images/val\nnames:\n{names}", encoding="utf-8")
    (folder / "labels" / "train" / "0.txt").write_text(
        "9999 0.123456789012345678 0.123456789012345678 0.1 0.1\n" * 50_000
    )
    Image.new("L", (10_000, 6_000)).save(folder / "images" / "train" / "1.bmp")
    (folder / "images" / "train" / "1.png").unlink()
    reference = check_dataset(str(folder), "detect", tmp_path / "cache", None)
    assert (len(reference.classes), reference.train_images) == (10_000, 2)
    assert len(reference.classes[9_999]) == 100


def test_materializing_has_the_same_limits(folder: Path, tmp_path: Path) -> None:
    data = build("detect", folder)
    reference = check_dataset(str(folder), "detect", tmp_path / "cache", None)
    data.write_text(_aliases())
    with pytest.raises(DatasetError, match=r"more than 100,000 values"):
        materialize(reference, tmp_path / "cache", None)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("d/" * 3000 + "a.png", "longer than 1024 bytes"),
        ("d/" * 100 + "a.png", "more than 64 folders deep"),
        ("ㅎ" * 86, "longer than 255 bytes"),
        ("a" * 65_535, "longer than 255 bytes"),
    ],
)
def test_a_name_that_is_too_deep_or_too_long_is_refused(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=reason):
        split_safely(name)
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as opened:
        opened.writestr(name, "")
    with pytest.raises(DatasetError, match=reason) as refused:
        unpack(str(tmp_path / "data.zip"), str(tmp_path), "s3://bucket/data.zip", str(tmp_path / "files"))
    assert len(str(refused.value)) < LONGEST_SENTENCE


def _overlapping(path: Path) -> None:
    """Write a zip file in which two directory entries share the same bytes, as in real zip bombs."""
    packed = zlib.compress(b"\0" * 100_000, 9, -15)
    name = b"a.png"
    fields = (20, 0, 8, 0, 0, zlib.crc32(b"\0" * 100_000), len(packed), 100_000, len(name), 0)
    local = struct.pack("<4s5H3L2H", b"PK\3\4", *fields) + name + packed
    entries = b"".join(
        struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, *fields, 0, 0, 0, 0, 0) + entry
        for entry in (name, b"b.png")
    )
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, len(entries), len(local), 0)
    path.write_bytes(local + entries + end)


def _text_name(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("ä.png", "")
    path.write_bytes(path.read_bytes().replace("ä".encode(), b"\xff\xff"))


ZIP_BOMBS: dict[str, tuple[Callable[[Path], object], str]] = {
    "files in the same bytes": (_overlapping, "'a.png', which overlaps another file"),
    "a directory before the file": (
        lambda path: path.write_bytes(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 1000, 0, 0)),
        "not a complete zip file",
    ),
    "a name that is not UTF-8": (_text_name, "not a complete zip file"),
    "a directory of its own": (
        lambda path: _many_entries(path, 2000),
        "its file list takes 101.6 KiB, more than the limit of 64 KiB",
    ),
}


def _many_entries(path: Path, number: int) -> None:
    with zipfile.ZipFile(path, "w") as opened:
        for entry in range(number):
            opened.writestr(f"{entry:06d}", "")


@pytest.mark.parametrize("bomb", ZIP_BOMBS)
def test_a_zip_bomb_is_refused(bomb: str, tmp_path: Path) -> None:
    write, reason = ZIP_BOMBS[bomb]
    write(tmp_path / "data.zip")
    (tmp_path / "target").mkdir()
    with pytest.raises(DatasetError) as refused:
        unpack(
            str(tmp_path / "data.zip"),
            str(tmp_path / "target"),
            "s3://bucket/data.zip",
            str(tmp_path / "files"),
            UnpackLimits(directory=64 * limits.KIB),
        )
    assert reason in str(refused.value)
    assert not list((tmp_path / "target").iterdir())
