"""The functions that a checkpoint may call, with their arguments: everything else is foreign code.

Each function here takes its arguments as symbols and returns a symbol of the result, without calling the
real function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from include.checkpoints.inspection.classes import is_module
from include.checkpoints.inspection.errors import ForeignCode, NotACheckpoint
from include.checkpoints.inspection.symbols import Constant, Instance, Name, OrderedMapping, Storage, Tensor

ITEM_SIZES = {
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1,
    "Bool": 1,
}  # fmt: skip
"""Size in bytes of one number in each type of PyTorch storage."""

DTYPES = {
    "torch.float64", "torch.float32", "torch.float16", "torch.bfloat16", "torch.int64", "torch.int32",
    "torch.int16", "torch.int8", "torch.uint8", "torch.bool",
}  # fmt: skip
_NUMPY_SIZES = {
    "f8": 8, "f4": 4, "f2": 2, "i8": 8, "i4": 4, "i2": 2, "i1": 1, "u8": 8, "u4": 4, "u2": 2, "u1": 1,
    "b1": 1,
}  # fmt: skip
_VIEWS = 4
"""Maximum average number of tensors that share a stored number; in real checkpoints, it is one or a few."""

_FORWARD = {"forward", "forward_fuse", "forward_split"}
_INTERPOLATION = "torchvision.transforms.functional.InterpolationMode"


def call(path: str, arguments: Sequence[Any]) -> Any:
    """Return the symbol for the result of calling `path`. Raises ForeignCode, NotACheckpoint."""
    function = _FUNCTIONS.get(path)
    if function is None:
        raise ForeignCode(f"calls {path}, which no checkpoint does; it may be harmful, so do not load it")
    try:
        return function(*arguments)
    except (_Unfit, TypeError):  # TypeError: a wrong number of arguments, or an unhashable one
        raise ForeignCode(
            f"calls {path} with arguments that no checkpoint passes; it may be harmful, so do not load it"
        ) from None


class _Unfit(Exception):
    """The arguments are not those of a checkpoint."""


def _require(fits: bool) -> None:
    if not fits:
        raise _Unfit


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**48


def _make_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, metadata: Any = None
) -> Tensor:
    """Check what torch._utils._rebuild_tensor_v2 would do; accept only views within their storage."""
    _require(isinstance(storage, Storage) and type(grad) is bool and metadata is None)
    _require(isinstance(hooks, OrderedMapping) and not hooks)
    _require(type(shape) is tuple and type(strides) is tuple and len(shape) == len(strides) <= 16)
    _require(all(map(_is_count, (offset, *shape, *strides))))
    items = math.prod(shape)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if items and (last >= storage.items or items > storage.items):
        raise NotACheckpoint(
            "holds a tensor that is larger than its stored data; it is damaged, or was crafted to exhaust "
            "memory"
        )
    storage.viewed += items
    if storage.viewed > _VIEWS * storage.items:
        raise NotACheckpoint(
            "holds too many tensors that share the same storage; it was crafted to exhaust memory"
        )
    return Tensor(shape)


def _make_parameter(tensor: Any, grad: Any, hooks: Any) -> Tensor:
    _require(
        isinstance(tensor, Tensor) and type(grad) is bool and isinstance(hooks, OrderedMapping) and not hooks
    )
    return Tensor(tensor.shape)


def _make_mapping() -> OrderedMapping:
    return OrderedMapping()


def _make_set(items: Any) -> set[str]:
    _require(type(items) is list and all(isinstance(item, str) for item in items))
    return set(items)


def _make_size(shape: Any) -> tuple[int, ...]:
    _require(type(shape) is tuple and all(map(_is_count, shape)))
    return tuple(shape)


def _make_device(name: Any, index: Any = 0) -> Constant:
    _require(isinstance(name, str) and len(name) < 20 and _is_count(index))
    return Constant("device")


def _make_path(*parts: Any) -> Constant:
    _require(all(isinstance(part, str) for part in parts))
    return Constant("path", "/".join(parts))


def _get_attribute(owner: Any, name: Any) -> Constant:
    """Return the symbol of a module's own forward method, or of a member of InterpolationMode."""
    if isinstance(owner, Name) and owner.path == _INTERPOLATION:
        return _make_interpolation(name)
    _require(isinstance(owner, (Name, Instance)) and is_module(owner.path) and name in _FORWARD)
    return Constant("method", name)


def _make_interpolation(name: Any) -> Constant:
    _require(isinstance(name, str) and name.isalpha() and len(name) < 20)
    return Constant("interpolation", name)


def _encode_bytes(text: Any, encoding: Any) -> Constant:
    _require(isinstance(text, str) and encoding == "latin1" and len(text) <= 16)
    return Constant("bytes", len(text))


def _make_dtype(code: Any, align: Any, copy: Any) -> Constant:
    _require(code in _NUMPY_SIZES and align in (0, 1) and copy in (0, 1))
    return Constant("dtype", code)


def _make_number(dtype: Any, content: Any) -> Constant:
    _require(isinstance(dtype, Constant) and dtype.kind == "dtype")
    _require(isinstance(content, Constant) and content.kind == "bytes")
    _require(_NUMPY_SIZES[dtype.value] == content.value)
    return Constant("number")


def _make_namespace() -> Instance:
    return Instance("ultralytics.utils.IterableSimpleNamespace")


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor_v2": _make_tensor,
    "torch._utils._rebuild_parameter": _make_parameter,
    "collections.OrderedDict": _make_mapping,
    "builtins.set": _make_set,
    "builtins.getattr": _get_attribute,
    "torch.Size": _make_size,
    "torch.device": _make_device,
    _INTERPOLATION: _make_interpolation,
    "_codecs.encode": _encode_bytes,
    "numpy.dtype": _make_dtype,
    "numpy.core.multiarray.scalar": _make_number,
    "numpy._core.multiarray.scalar": _make_number,
    "ultralytics.utils.IterableSimpleNamespace": _make_namespace,
    "ultralytics.yolo.utils.IterableSimpleNamespace": _make_namespace,
    "pathlib.PosixPath": _make_path,
    "pathlib.WindowsPath": _make_path,
    "pathlib._local.PosixPath": _make_path,
    "pathlib._local.WindowsPath": _make_path,
}

KNOWN_FUNCTIONS = frozenset(_FUNCTIONS)
