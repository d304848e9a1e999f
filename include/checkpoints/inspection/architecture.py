"""Checks the description from which a model is built: an architecture's YAML, or its copy in a checkpoint.

Ultralytics evaluates the description's `activation` as Python, calls whatever function a row names, and
creates layers of any size. So every description is checked before Ultralytics reads it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from include.checkpoints.inspection.classes import list_layers
from include.checkpoints.inspection.errors import ForeignCode, NotACheckpoint, TooLarge

MAX_LAYERS = 500
MAX_REPEATS = 100
MAX_CHANNELS = 8192
"""Largest number in a layer's arguments and in kpt_shape, and largest number of a scale's channels. In the
arguments of nn.Upsample and its variants, MAX_SCALE is the largest number. Ultralytics' own architectures use
at most 2,048."""

MAX_SCALE = 16
"""Largest factor by which nn.Upsample and its variants may enlarge an image, and largest depth and width of
a scale."""

MAX_CLASSES = 100_000
MAX_NAME = 1_000
MAX_NAMES = 10_000_000
"""Maximum number of characters in all class names together: a pickle can repeat a name at almost no cost."""

_ACTIVATION = re.compile(r"(torch\.)?nn\.[A-Za-z0-9]{1,40}\([A-Za-z0-9_=., -]{0,100}\)")
_WORD = re.compile(r"[A-Za-z_]\w{0,63}", re.ASCII)


def check_architecture(architecture: Mapping[str, Any]) -> None:
    """Raise ForeignCode for text that would run as code, NotACheckpoint or TooLarge for an invalid model."""
    rows = [*_read_rows(architecture, "backbone"), *_read_rows(architecture, "head")]
    if len(rows) > MAX_LAYERS:
        raise TooLarge(f"describes a model with more than {MAX_LAYERS} layers")
    for row in rows:
        _check_row(row)
    activation = architecture.get("activation")
    if activation is not None and not (isinstance(activation, str) and _ACTIVATION.fullmatch(activation)):
        raise ForeignCode(
            "describes a model whose activation is not a layer of torch.nn; write one such as nn.ReLU()"
        )
    _check_numbers(architecture)


def check_names(names: Any) -> None:
    """Raise NotACheckpoint or TooLarge unless `names` are class names, in a list or by number."""
    if not isinstance(names, (dict, list, tuple)):
        raise NotACheckpoint("holds a model without class names")
    if len(names) > MAX_CLASSES:
        raise TooLarge(f"holds a model with more than {MAX_CLASSES:,} classes")
    texts = names.values() if isinstance(names, dict) else names
    if not all(isinstance(text, str) and len(text) <= MAX_NAME for text in texts):
        raise NotACheckpoint(f"holds a class whose name is not a string of at most {MAX_NAME:,} characters")
    if sum(map(len, texts)) > MAX_NAMES:
        raise TooLarge(f"holds class names of more than {MAX_NAMES:,} characters in total")


def _read_rows(architecture: Mapping[str, Any], part: str) -> list[Any]:
    rows = architecture.get(part)
    if not isinstance(rows, (list, tuple)):
        raise NotACheckpoint(f"does not describe a model: its {part} is not a list of layers")
    return list(rows)


def _check_row(row: Any) -> None:
    if not isinstance(row, (list, tuple)) or len(row) != 4:
        raise NotACheckpoint("describes a layer that is not written as [from, repeats, layer, arguments]")
    source, repeats, layer, arguments = row
    sources = source if isinstance(source, (list, tuple)) else [source]
    if not sources or not all(_is_whole(each, MAX_LAYERS) for each in sources):
        raise NotACheckpoint(
            f"describes a layer whose input is not a layer number from -{MAX_LAYERS} to {MAX_LAYERS}"
        )
    if not _is_whole(repeats, MAX_REPEATS) or repeats < 1:
        raise TooLarge(f"describes a layer whose repeat count is not a whole number from 1 to {MAX_REPEATS}")
    if not isinstance(layer, str) or layer not in list_layers():
        raise ForeignCode(
            "describes a layer that is not part of torch.nn (such as nn.Upsample) or ultralytics.nn.modules "
            "(such as Conv); layers of torchvision and other packages are not supported"
        )
    if not isinstance(arguments, (list, tuple)) or len(arguments) > 20:
        raise NotACheckpoint("describes a layer whose arguments are not a list of at most 20 items")
    limit = MAX_SCALE if layer.startswith("nn.Upsampl") else MAX_CHANNELS
    for value in _flatten(arguments):
        _check_argument(value, limit)


def _flatten(arguments: list[Any] | tuple[Any, ...]) -> Iterator[Any]:
    """Yield the arguments, and the items of any lists among them."""
    for value in arguments:
        if isinstance(value, (list, tuple)) and len(value) <= 20:
            yield from value
        else:
            yield value


def _check_argument(value: Any, limit: int) -> None:
    if isinstance(value, str) and _is_written_as_number(value):
        value = float(value)  # Ultralytics evaluates it
    word = isinstance(value, str) and _WORD.fullmatch(value)
    if not (word or value is None or isinstance(value, bool) or _is_number(value, limit)):
        raise TooLarge(
            f"describes a layer with an argument that is neither a plain name nor a number up to {limit:,}"
        )


def _check_numbers(architecture: Mapping[str, Any]) -> None:
    limits = {"nc": MAX_CLASSES, "ch": 64, "channels": 64, "reg_max": 1024, "depth_multiple": MAX_SCALE,
              "width_multiple": MAX_SCALE}  # fmt: skip
    for name, limit in limits.items():
        value = architecture.get(name)
        if value is not None and not (_is_number(value, limit) and value >= 0):
            raise TooLarge(f"describes a model whose {name} is not a number from 0 to {limit:,}")
    shape = architecture.get("kpt_shape")
    if shape is not None and not (
        isinstance(shape, (list, tuple))
        and len(shape) == 2
        and all(_is_whole(n, MAX_CHANNELS) for n in shape)
    ):
        raise TooLarge(f"describes a model whose kpt_shape is not a pair of numbers up to {MAX_CHANNELS:,}")
    scales = architecture.get("scales")
    if scales is not None and not (isinstance(scales, dict) and all(map(_is_scale, scales.values()))):
        raise TooLarge(
            f"describes scales that are not [depth, width, max_channels], with factors up to {MAX_SCALE} "
            f"and at most {MAX_CHANNELS:,} channels"
        )


def _is_scale(scale: Any) -> bool:
    if not isinstance(scale, (list, tuple)) or len(scale) != 3:
        return False
    depth, width, channels = scale
    return all(_is_number(n, MAX_SCALE) for n in (depth, width)) and _is_number(channels, MAX_CHANNELS)


def _is_whole(value: Any, limit: int) -> bool:
    return type(value) is int and abs(value) <= limit


def _is_number(value: Any, limit: float) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) <= limit


def _is_written_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
