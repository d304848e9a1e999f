"""Generates untrusted input that is close enough to valid input to pass the first checks, but hostile."""

from __future__ import annotations

import io
import struct
import zipfile
from typing import Any

import yaml
from hypothesis import strategies as st

FRACTIONS = st.floats(0, 1).map(lambda value: f"{value:.6f}")
NUMBERS = st.one_of(
    st.floats().map(repr),
    st.integers().map(str),
    st.sampled_from(
        [
            "-0",
            "+1",
            "1e400",
            "1_0",
            "0x1p3",
            "\u0661",
            "½",
            ".5.",
            "9" * 5000,
            "1e-999",
            "nan",
            "-inf",
            "",
            "0.5\0",
            "\u0627",
        ]
    ),
)
BREAKS = st.sampled_from(
    ["\n"] * 5 + ["\n", "\r\n", "\r", "\n\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\0\n"]
)
GAPS = st.sampled_from([" "] * 5 + [" ", "  ", "\t", ",", "\u00a0", "\u3000"])


@st.composite
def corrupted(draw: st.DrawFn, content: bytes, most: int = 4) -> bytes:
    """Return `content` with some bytes replaced, inserted or removed."""
    corrupt = bytearray(content)
    for _ in range(draw(st.integers(0, most))):
        place = draw(st.integers(0, len(corrupt)))
        cut = draw(st.integers(0, 8))
        corrupt[place : place + cut] = draw(st.binary(max_size=8))
    end = draw(st.none() | st.integers(0, len(corrupt)))
    return bytes(corrupt[:end])


@st.composite
def labels(draw: st.DrawFn, task: str) -> bytes:
    """Return a mostly well-formed label file for the task."""
    point = [FRACTIONS, FRACTIONS]
    columns = {
        "detect": point * 2,
        "segment": point * 3,
        "obb": point * 4,
        "pose": point * 2 + [*point, st.sampled_from("012")] * 4,
    }[task]
    lines = draw(st.lists(st.tuples(st.sampled_from("01"), *columns).map(list), max_size=6))
    for _ in range(draw(st.integers(0, 3)) if lines else 0):
        hostile = draw(st.sampled_from(lines))
        place = draw(st.integers(0, len(hostile)))
        hostile[place : place + draw(st.integers(0, 2))] = [draw(NUMBERS)]
    text = draw(BREAKS).join(draw(GAPS).join(line) for line in lines)
    coded = text.encode(
        draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"])), "replace"
    )
    return draw(st.one_of(st.just(coded), corrupted(coded, most=1)))


@st.composite
def lists(draw: st.DrawFn, good: list[str], outside: list[str]) -> bytes:
    """Return a list of images, most of which exist."""
    lines = draw(st.lists(st.sampled_from(["", *good]), min_size=1, max_size=5))
    for _ in range(draw(st.integers(0, 2))):
        hostile = draw(st.sampled_from(outside) | st.text(max_size=9))
        lines.insert(draw(st.integers(0, len(lines))), hostile)
    text = draw(BREAKS).join(lines).encode("utf-8", "replace")
    return draw(st.one_of(st.just(text), corrupted(text, most=1)))


def descriptions(outside: list[str]) -> st.SearchStrategy[bytes]:
    """Return data YAMLs; `outside` are paths of files that are not part of the dataset."""
    return st.one_of(_random_descriptions(outside), st.sampled_from(YAML_BOMBS))


@st.composite
def _random_descriptions(draw: st.DrawFn, outside: list[str]) -> bytes:
    values = _values(outside)
    paths = st.sampled_from(["images/train", "images/val", ".", "..", "list.txt", "~", "*", "/", *outside])
    described: dict[Any, Any] = {
        "train": "images/train",
        "val": "images/val",
        "names": ["box", "arrow"],
        "kpt_shape": [4, 3],
    }
    keys = (
        *described,
        "path",
        "nc",
        "test",
        "flip_idx",
        "channels",
        "download",
        "yaml_file",
        "kpt_names",
        "x",
    )
    for key in draw(st.sets(st.sampled_from(keys), max_size=3)):
        described[key] = draw(st.one_of(paths, st.lists(paths, max_size=3), values))
    text = yaml.safe_dump(described, sort_keys=False, allow_unicode=True).encode()
    return draw(st.one_of(st.just(text), corrupted(text)))


def _values(outside: list[str]) -> st.SearchStrategy[Any]:
    scalars = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
        st.dates(),
        st.binary(max_size=4),
        st.sampled_from([10**7, 2 * 10**9, 10**4000, -1, "a" * 5000, "\u202e", *outside]),
    )
    return st.recursive(
        scalars,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.text(max_size=3) | st.integers() | st.dates(), inner, max_size=3),
        ),
        max_leaves=6,
    )


_ALIASES = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
_HEAD = "train: images/train\nval: images/val\n"
YAML_BOMBS = [
    f"a0: &a0 [x, x]\n{_ALIASES}{_HEAD}names: *a11\n".encode(),
    f"{_HEAD}names: &n [*n]\n".encode(),
    f"{_HEAD}names: &n {{0: *n}}\n".encode(),
    f"{_HEAD}names: {'[' * 3000}{']' * 3000}\n".encode(),
    f"{_HEAD}names: {'{a: ' * 3000}{'}' * 3000}\n".encode(),
    f"{_HEAD}nc: 10000000\n".encode(),
    f"{_HEAD}nc: 2000000000\n".encode(),
    f"{_HEAD}nc: {'9' * 5000}\n".encode(),
    f"{_HEAD}names: {{{'9' * 5000}: a}}\n".encode(),
    f"{_HEAD}nc: 1e999\n".encode(),
    f"{_HEAD}nc: {':'.join(['59'] * 2000)}\n".encode(),  # YAML 1.1 reads such a number in base 60
    f"{_HEAD}names: !!python/object/apply:os.system ['touch executed']\n".encode(),
    f"{_HEAD}names: !!python/name:os.system\n".encode(),
    f"{_HEAD}names: !!binary aGk=\n".encode(),
    f"{_HEAD}names: !!set {{a, b}}\n".encode(),
    f"{_HEAD}names: !!timestamp 2026-13-45\n".encode(),
    f"<<: [&m {{<<: *m}}]\n{_HEAD}names: [a]\n".encode(),
    b"%YAML 9.9\n---\n" + _HEAD.encode(),
    b"? [a]\n: b\n? {a: b}\n: c\n",
    b"\xff\xfet\0r\0a\0i\0n\0",
    b"--- a\n--- b\n",
    b"",
    b"\t",
    b"&a &a *a",
]
"""Small files that grow, recurse or run code if a loader lets them."""

NAMES = st.one_of(
    st.sampled_from(
        [
            "data.yaml",
            "images/train/0.png",
            "images/val/0.png",
            "labels/train/0.txt",
            "train/a/0.png",
            "val/a/0.png",
            "images/train/labels.cache",
            "images/train/0.npy",
            "../executed",
            "/executed",
            "a/../../executed",
            "C:\\executed",
            "..\\executed",
            "images",
            "images/train/0.png/1.png",
            "data.yaml/",
            "a\0b",
            "\u202egnp.0",
            "CON",
            "a" * 300,
            "/".join("d" * 400),
            "",
            ".",
            "./data.yaml",
        ]
    ),
    st.text(max_size=20),
)


@st.composite
def archives(draw: st.DrawFn, good: dict[str, bytes], contents: st.SearchStrategy[bytes]) -> bytes:
    """Return a zip of valid files and of entries with hostile names and types, perhaps with wrong bytes."""
    written = io.BytesIO()
    with zipfile.ZipFile(
        written, "w", draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    ) as archive:
        for name, content in good.items():
            archive.writestr(name, draw(st.one_of(*[st.just(content)] * 20, contents)))
        for name in draw(st.one_of(st.just([]), st.lists(NAMES, max_size=3))):
            entry = zipfile.ZipInfo(name.encode("utf-8", "replace").decode() or "_")
            entry.create_system = draw(st.sampled_from([0, 3]))
            entry.external_attr = draw(st.sampled_from([0, 0o120777, 0o100644, 0o060666, 0o010666])) << 16
            entry.flag_bits |= draw(st.sampled_from([0, 0, 0, 1, 0x40]))
            archive.writestr(entry, draw(contents))
    content = written.getvalue()
    lie = _lie_about_sizes(content, draw(st.sampled_from([0, 2**31, 2**32 - 1])))
    return draw(st.one_of(st.just(content), st.just(content), st.just(lie), corrupted(content)))


def _lie_about_sizes(content: bytes, size: int) -> bytes:
    """Return the zip with a false size for the first entry in its central directory."""
    place = content.find(b"PK\x01\x02")
    if place < 0:
        return content
    return content[: place + 24] + struct.pack("<I", size) + content[place + 28 :]
