"""An unpickler that creates no objects: it interprets a pickle with symbols instead of objects.

It accepts only the opcodes that torch.save writes, all of which torch.load(weights_only=True) also accepts.
Time and memory are bounded by the length of the pickle, which MAX_PICKLE limits.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any

from include.checkpoints.inspection.calls import DTYPES, ITEM_SIZES, KNOWN_FUNCTIONS, call
from include.checkpoints.inspection.classes import is_known
from include.checkpoints.inspection.errors import ForeignCode, InspectionError, NotACheckpoint, TooLarge
from include.checkpoints.inspection.symbols import Constant, Instance, Name, OrderedMapping, Storage

MAX_OBJECTS = 500_000
"""Maximum number of containers and objects; the full state of the largest model has 100,000."""

_IDENTIFIER = re.compile(r"[A-Za-z_][\w.]{0,150}", re.ASCII)
_STORAGES = {f"torch.{name}Storage": size for name, size in ITEM_SIZES.items()}
_KEYS = (str, int, float, type(None))


class SymbolicUnpickler:
    """Interprets one pickle. `storages` maps the key of each storage in the archive to its size in bytes."""

    def __init__(self, pickle: bytes, storages: dict[str, int]) -> None:
        self._pickle, self._at = pickle, 0
        self._storages = storages
        self._loaded: dict[tuple[str, int], Storage] = {}
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._objects = 0
        self.modules: set[str] = set()
        """Modules of the classes and functions that the pickle refers to."""

    def load(self) -> Any:
        """Return the symbol for the pickled object. Raises ForeignCode, NotACheckpoint, TooLarge."""
        try:
            while (code := self._take(1)[0]) != _STOP:
                instruction = _INSTRUCTIONS.get(code)
                if instruction is None:
                    raise ForeignCode(
                        f"holds the opcode {code}, which torch.save never writes; it may be harmful, so do "
                        "not load it"
                    )
                instruction(self)
            if self._at != len(self._pickle) or self._below:
                raise _build_damage_error()
            (result,) = self._stack
        except (IndexError, KeyError, ValueError, TypeError, struct.error) as error:
            if isinstance(error, InspectionError):
                raise
            raise _build_damage_error() from None
        return result

    def _take(self, length: int) -> bytes:
        start = self._at
        self._at += length
        if self._at > len(self._pickle):
            raise _build_damage_error()
        return self._pickle[start : self._at]

    def _take_line(self) -> str:
        end = self._pickle.index(b"\n", self._at, self._at + 300)
        return str(self._take(end + 1 - self._at)[:-1], "ascii")

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _push_new(self, value: Any) -> None:
        self._objects += 1
        if self._objects > MAX_OBJECTS:
            raise TooLarge(f"holds more than {MAX_OBJECTS:,} objects; no real checkpoint does")
        self._stack.append(value)

    def _pop_marked(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    # Names, calls and objects

    def _push_name(self) -> None:
        module, name = self._take_line(), self._take_line()
        path = f"{'builtins' if module == '__builtin__' else module}.{name}"
        if not (path in KNOWN_FUNCTIONS or path in DTYPES or path in _STORAGES or is_known(path)):
            shown = path if _IDENTIFIER.fullmatch(path) else "an invalid name"
            raise ForeignCode(
                f"names {shown}, which no checkpoint of Ultralytics needs; it may be harmful, so do not "
                "load it"
            )
        self.modules.add(path.rpartition(".")[0])
        self._push(Constant("dtype", path) if path in DTYPES else Name(path))

    def _push_instance(self) -> None:
        arguments, cls = self._stack.pop(), self._stack.pop()
        if not isinstance(cls, Name) or not is_known(cls.path) or arguments != ():
            raise ForeignCode(
                "creates an object in a way that no checkpoint does; it may be harmful, so do not load it"
            )
        self._push_new(Instance(cls.path))

    def _call(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, Name) or type(arguments) is not tuple:
            raise ForeignCode("calls something that is not a function; it may be harmful, so do not load it")
        self._push_new(call(function.path, arguments))

    def _build(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if isinstance(target, Constant) and target.kind == "dtype" and type(state) is tuple:
            return  # NumPy's state of a dtype, such as the byte order
        if type(target) is OrderedMapping and type(state) is dict and set(state) == {"_metadata"}:
            target.metadata = state["_metadata"]
            return
        if not isinstance(target, Instance) or target.state is not None or type(state) is not dict:
            raise ForeignCode(
                "changes an object in a way that no checkpoint does; it may be harmful, so do not load it"
            )
        if not all(isinstance(name, str) and not name.startswith("__") for name in state):
            raise ForeignCode(
                "gives an object attributes that no checkpoint has; it may be harmful, so do not load it"
            )
        target.state = state

    def _push_storage(self) -> None:
        kind, storage_type, key, location, items = self._stack.pop()
        if kind != "storage" or not isinstance(storage_type, Name) or not isinstance(location, str):
            raise ForeignCode("refers to something outside the file; it may be harmful, so do not load it")
        size = _STORAGES[storage_type.path]
        if type(items) is not int or type(key) is not str or self._storages[key] != items * size:
            raise NotACheckpoint(
                "does not hold as many numbers as it declares; it is damaged, or was crafted to exhaust "
                "memory"
            )
        self._push(self._loaded.setdefault((key, size), Storage(items)))

    # Containers

    def _append(self) -> None:
        item = self._stack.pop()
        self._require_top(list).append(item)

    def _extend(self) -> None:
        items = self._pop_marked()
        self._require_top(list).extend(items)

    def _set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set_items([key, value])

    def _set_items(self, items: list[Any]) -> None:
        target = self._require_top(dict, OrderedMapping)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, _KEYS):
                raise NotACheckpoint(
                    "uses something other than a string or a number as a key; no checkpoint does"
                )
            target[key] = value

    def _require_top(self, *kinds: type) -> Any:
        if type(self._stack[-1]) not in kinds:
            raise _build_damage_error()
        return self._stack[-1]

    def _push_tuple(self, length: int) -> None:
        items = tuple(self._stack[len(self._stack) - length :])
        if len(items) != length:
            raise _build_damage_error()
        del self._stack[len(self._stack) - length :]
        self._push_new(items)

    def _mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    # Plain values

    def _push_text(self) -> None:
        self._push(str(self._take(*struct.unpack("<I", self._take(4))), "utf-8"))

    def _push_long(self) -> None:
        length = self._take(1)[0]
        if length > 9:
            raise NotACheckpoint("holds a number of more than 64 bits; no checkpoint does")
        self._push(int.from_bytes(self._take(length), "little", signed=True))

    def _get(self, index: int) -> None:
        self._push(self._memo[index])

    def _put(self, index: int) -> None:
        if index > len(self._memo):  # other unpicklers allocate memory up to this index
            raise NotACheckpoint(
                "numbers its objects in a way that no program does; it was crafted to exhaust memory"
            )
        self._memo[index] = self._stack[-1]

    def _check_protocol(self) -> None:
        if self._at != 1 or self._take(1)[0] != 2:
            raise NotACheckpoint(
                "uses a different pickle protocol from torch.save; save it again with torch.save"
            )


_STOP = ord(".")


def _build_pusher(layout: str) -> Callable[[SymbolicUnpickler], None]:
    unpack, length = struct.Struct(layout).unpack, struct.calcsize(layout)
    return lambda self: self._push(*unpack(self._take(length)))


def _build_indexed(
    layout: str, do: Callable[[SymbolicUnpickler, int], None]
) -> Callable[[SymbolicUnpickler], None]:
    unpack, length = struct.Struct(layout).unpack, struct.calcsize(layout)
    return lambda self: do(self, *unpack(self._take(length)))


_U = SymbolicUnpickler
_INSTRUCTIONS: dict[int, Callable[[SymbolicUnpickler], None]] = {
    ord(code): instruction
    for code, instruction in {
        b"\x80": _U._check_protocol, b"c": _U._push_name, b"\x81": _U._push_instance, b"R": _U._call,
        b"b": _U._build, b"Q": _U._push_storage, b"a": _U._append, b"e": _U._extend, b"s": _U._set_item,
        b"u": lambda self: self._set_items(self._pop_marked()),
        b"(": _U._mark, b"X": _U._push_text, b"\x8a": _U._push_long,
        b"t": lambda self: self._push_new(tuple(self._pop_marked())),
        b"\x85": lambda self: self._push_tuple(1), b"\x86": lambda self: self._push_tuple(2),
        b"\x87": lambda self: self._push_tuple(3),
        b"N": lambda self: self._push(None),
        b"\x88": lambda self: self._push(True), b"\x89": lambda self: self._push(False),
        b")": lambda self: self._push(()), b"]": lambda self: self._push_new([]),
        b"}": lambda self: self._push_new({}),
        b"J": _build_pusher("<i"), b"K": _build_pusher("<B"), b"M": _build_pusher("<H"),
        b"G": _build_pusher(">d"),
        b"h": _build_indexed("<B", _U._get), b"j": _build_indexed("<I", _U._get),
        b"q": _build_indexed("<B", _U._put), b"r": _build_indexed("<I", _U._put),
    }.items()
}  # fmt: skip


def _build_damage_error() -> NotACheckpoint:
    return NotACheckpoint("is damaged: its pickle is invalid; copy it again")
