"""Files without the layout of torch.save: archives that can be read in two ways, and other formats."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile

from tests.support.crafted_checkpoints import (
    WEIGHTS,
    Raw,
    archive,
    call,
    checkpoint,
    crafted,
    name,
    pickled,
    value,
    zipped,
)

GOOD, EVIL = pickled(checkpoint()), pickled(call("os.system", "true"))

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001


def _edited(data: bytes, at: int, layout: str, *numbers: int) -> bytes:
    edited = bytearray(data)
    struct.pack_into(layout, edited, at % len(data), *numbers)
    return bytes(edited)


def _twice(first: bytes, second: bytes) -> bytes:
    """Return an archive with two entries of one name; some programs read the first, and some the last."""
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as written:
            for entry, content in (("a/data.pkl", first), ("a/data/0", WEIGHTS), ("b/data.pkl", second)):
                written.writestr(entry, content)
        return file.getvalue().replace(b"b/data.pkl", b"a/data.pkl")


def _directory_at(data: bytes) -> int:
    return int(struct.unpack("<L", data[-6:-2])[0])


def _legacy(stream: int) -> bytes:
    """Return a file of the format that preceded ZIP: four pickles in a row, with a payload in one of them."""
    streams = [pickle.dumps(each, 2) for each in (MAGIC, VERSION, {"little_endian": True}, {"epoch": 3})]
    streams[stream] = EVIL
    return b"".join(streams) + pickle.dumps(["0"], 2) + struct.pack("<q", 0)


def _tar() -> bytes:
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w") as written:
            for entry in ("sys_info", "storages", "tensors", "pickle"):
                member = tarfile.TarInfo(entry)
                member.size = len(EVIL)
                written.addfile(member, io.BytesIO(EVIL))
        return file.getvalue()


def _overlapping() -> bytes:
    """Return an archive whose directory entries all point to the same bytes, as in zip bombs."""
    good = crafted()
    at = _directory_at(good)
    second = good.index(b"PK\x01\x02", at + 1)
    return _edited(good, second + 42, "<L", 0)


_GOOD_FILE = crafted()
_DIRECTORY = _directory_at(_GOOD_FILE)
_BESIDE = {"version": b"3\n", "byteorder": b"little", "data/0": WEIGHTS}

LAYOUTS: dict[str, bytes] = {
    "a pickle twice, the bad one last": _twice(GOOD, EVIL),
    "a pickle twice, the bad one first": _twice(EVIL, GOOD),
    "a pickle in capitals beside it": archive(GOOD, {"DATA.PKL": EVIL}),
    "two archives in one": zipped({"a/data.pkl": GOOD, "a/data/0": WEIGHTS, "b/data.pkl": EVIL}),
    "a folder more": zipped({"a/b/data.pkl": GOOD, "a/b/data/0": WEIGHTS}),
    "a name that leads elsewhere": archive(GOOD, {"data/../../x": b""}),
    "compressed": zipped(
        {"a/data.pkl": GOOD} | {f"a/{k}": v for k, v in _BESIDE.items()}, zipfile.ZIP_DEFLATED
    ),
    "a program beside it": archive(GOOD, {"code/__torch__.py": b"def f(): pass"}),
    "TorchScript": archive(GOOD, {"constants.pkl": EVIL, "code/__torch__.py": b""}),
    "an exported program (.pt2)": zipped(
        {
            "a/archive_format": b"pt2",
            "a/models/model.json": b"{}",
            "a/data/weights/weight_0": WEIGHTS,
            "a/data/constants/model.pt": EVIL,
            "a/byteorder": b"little",
        }
    ),
    "bytes before it": b"#!/bin/sh\n" + _GOOD_FILE,
    "bytes after it": _GOOD_FILE + b"x",
    "a comment": _edited(_GOOD_FILE, -2, "<H", 3) + b"abc",
    "a directory elsewhere": _edited(_GOOD_FILE, -6, "<L", _DIRECTORY - 46),
    "fewer entries than the directory has": _edited(_GOOD_FILE, -14, "<HH", 2, 2),
    "more entries than the directory has": _edited(_GOOD_FILE, -14, "<HH", 50_000, 50_000),
    "a directory of four gigabytes": _edited(_GOOD_FILE, -10, "<L", 0xFFFFFFF0),
    "encrypted": _edited(_GOOD_FILE, _DIRECTORY + 8, "<H", 1),
    "a size that the entry does not have": _edited(_GOOD_FILE, _DIRECTORY + 20, "<LL", 10**9, 10**9),
    "sizes that differ": _edited(_GOOD_FILE, _DIRECTORY + 20, "<L", 1),
    "entries that overlap": _overlapping(),
    "another name at the entry": _GOOD_FILE.replace(b"archive/data.pkl", b"archive/xxta.pkl", 1),
    "padding beyond the entry": _edited(_GOOD_FILE, 28, "<H", 60_000),
    "a pickle of nine megabytes": archive(pickled(Raw(value("x" * 9_000_000)))),
    "a pickle that goes on": archive(GOOD + EVIL),
    "a pickle of protocol 4": archive(b"\x80\x04" + checkpoint() + b"."),
    "big-endian": archive(GOOD, {"byteorder": b"big"}),
    "no pickle": zipped({"a/version": b"3\n"}),
    "nothing": b"",
    "text": b"no checkpoint at all",
    "an empty archive": zipped({}),
}
"""Archives without the layout of torch.save, and files that are not archives."""

OTHER_FORMATS: dict[str, bytes] = {
    "the format before, first stream": _legacy(0),
    "the format before, second stream": _legacy(1),
    "the format before, third stream": _legacy(2),
    "the format before, fourth stream": _legacy(3),
    "a bare pickle": EVIL,
    "a bare pickle of protocol 0": b"cos\nsystem\n(S'true'\ntR.",
    "a pickle that scanners cannot follow": b"I0x10\n0cos\nsystem\n(S'true'\ntR.",
    "a pickle that breaks after it ran": EVIL[:-1] + b"\xff\xff",
    "a tar": _tar(),
    "a ZIP archive with a payload": crafted(call("os.system", "true")),
    "a TorchScript archive": archive(GOOD, {"constants.pkl": EVIL, "code/__torch__.py": b""}),
    "a memo named by a function": pickled(Raw(name("os.system") + b"q\x00")),
}
"""Contents that some loader would run as a program, or load as a pickle that may run one."""
