"""Checkpoints built byte by byte without PyTorch: a good one, and parts of malicious ones."""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

STOP = b"."
PROTOCOL = b"\x80\x02"

WEIGHTS = bytes(range(16)) * 27
"""The weights of the only layer: 108 numbers of 4 bytes."""


class Raw(bytes):
    """Pickle instructions that leave one value on the stack."""


def name(path: str) -> Raw:
    """Return instructions that push a class or function by its name."""
    module, _, attribute = path.rpartition(".")
    return Raw(b"c" + module.encode() + b"\n" + attribute.encode() + b"\n")


def value(of: Any) -> Raw:
    """Return instructions that push a plain value, which may contain Raw values."""
    if isinstance(of, Raw):
        return of
    if of is None or isinstance(of, bool):
        return Raw({None: b"N", True: b"\x88", False: b"\x89"}[of])
    if isinstance(of, int):
        if -(2**31) <= of < 2**31:
            return Raw(b"J" + struct.pack("<i", of))
        encoded = of.to_bytes((of.bit_length() + 8) // 8, "little", signed=True)
        return Raw(b"\x8a" + bytes([len(encoded)]) + encoded)
    if isinstance(of, float):
        return Raw(b"G" + struct.pack(">d", of))
    if isinstance(of, str):
        encoded = of.encode()
        return Raw(b"X" + struct.pack("<I", len(encoded)) + encoded)
    if isinstance(of, tuple):
        return Raw(b"(" + b"".join(map(value, of)) + b"t")
    if isinstance(of, list):
        return Raw(b"](" + b"".join(map(value, of)) + b"e")
    if isinstance(of, Mapping):
        return Raw(b"}(" + b"".join(value(key) + value(each) for key, each in of.items()) + b"u")
    raise TypeError(type(of))


def call(path: str, *arguments: Any) -> Raw:
    """Return instructions that call a function."""
    return Raw(name(path) + value(arguments) + b"R")


def new(path: str, state: Any = None) -> Raw:
    """Return instructions that make an object without calling __init__, and set its attributes."""
    return Raw(name(path) + b")\x81" + (b"" if state is None else value(state) + b"b"))


def storage(items: int, key: str = "0", kind: str = "FloatStorage") -> Raw:
    """Return instructions that refer to the numbers in an entry of the archive."""
    return Raw(value(("storage", name(f"torch.{kind}"), key, "cpu", items)) + b"Q")


def tensor(
    *shape: int,
    items: int | None = None,
    strides: tuple[int, ...] | None = None,
    offset: int = 0,
    key: str = "0",
) -> Raw:
    """Return instructions that view stored numbers as a tensor."""
    if strides is None:
        strides = tuple(math.prod(shape[at + 1 :]) for at in range(len(shape)))
    stored = storage(math.prod(shape) if items is None else items, key)
    arguments = (stored, offset, shape, strides, False, call("collections.OrderedDict"))
    return call("torch._utils._rebuild_tensor_v2", *arguments)


PARTS: dict[str, Any] = {"training": False, "_parameters": {}, "_buffers": {}, "_modules": {}}
"""The attributes that every layer has."""


def layer(path: str, modules: Mapping[str, Any] | None = None, /, **state: Any) -> Raw:
    """Return instructions that make a layer of a network."""
    return new(path, PARTS | {"_modules": modules or {}} | state)


ARCHITECTURE: dict[str, Any] = {
    "nc": 2,
    "yaml_file": "crafted.yaml",
    "backbone": [[-1, 1, "Conv", [16, 3, 2]]],
    "head": [[[0], 1, "Detect", ["nc"]]],
}


def model(
    *, path: str = "ultralytics.nn.tasks.DetectionModel", weights: Raw | None = None, **state: Any
) -> Raw:
    """Return instructions that make a model of one layer."""
    weight = call(
        "torch._utils._rebuild_parameter",
        weights or tensor(3, 4, 3, 3),
        True,
        call("collections.OrderedDict"),
    )
    conv = layer("torch.nn.modules.conv.Conv2d", _parameters={"weight": weight, "bias": None})
    layers = layer("torch.nn.modules.container.Sequential", {"0": conv})
    return layer(path, {"model": layers}, **{"yaml": ARCHITECTURE, "names": {0: "box", 1: "arrow"}} | state)


def checkpoint(**changes: Any) -> Raw:
    """Return instructions that make the content of a stripped best.pt."""
    state: dict[str, Any] = {
        "epoch": -1,
        "model": model(),
        "train_args": {"task": "detect", "epochs": 3},
        "version": "8",
    }
    return value(state | changes)


def pickled(content: Raw) -> bytes:
    """Return a complete pickle of the content."""
    return PROTOCOL + content + STOP


def archive(pickle: bytes, more: Mapping[str, bytes] | None = None, weights: bytes = WEIGHTS) -> bytes:
    """Return an archive that holds the pickle in the layout of torch.save."""
    entries = {"data.pkl": pickle, "byteorder": b"little", "data/0": weights, "version": b"3\n"} | dict(
        more or {}
    )
    return zipped({f"archive/{name}": content for name, content in entries.items()})


def zipped(entries: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Return a plain ZIP archive."""
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w", method) as archive:
            for entry, content in entries.items():
                archive.writestr(zipfile.ZipInfo(entry), content, method)
        return file.getvalue()


def crafted(content: Raw | None = None, **changes: Any) -> bytes:
    """Return a file that torch.load recognises as a checkpoint, whatever its content."""
    return archive(pickled(checkpoint(**changes) if content is None else content))
