"""Ultralytics' training arguments, checked without Ultralytics.

Jobs are also checked on machines that have no torch. arguments.json has the names and kinds of the pinned
version's arguments; include.training.derive_tables writes it.
"""

from __future__ import annotations

import itertools
import json
import math
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.limits import OVERRIDES_DEPTH, OVERRIDES_VALUES, TEXT
from include.plain_text import is_one_line
from include.refusals import show_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LARGEST_NUMBER = 10**18
TABLE = Path(__file__).with_name("arguments.json")

OURS: dict[str, str] = {
    "task": "give the job's task",
    "model": "give the job's model",
    "data": "give the job's dataset",
    "epochs": "give the job's epochs",
    "device": "give the job's device",
    "mode": "it is always train",
    "resume": "to continue a job, give resume_from",
    "project": "the location of a job's files is fixed",
    "name": "the location of a job's files is fixed",
    "save_dir": "the location of a job's files is fixed",
    "exist_ok": "the location of a job's files is fixed",
    "save": "last.pt and best.pt are always saved",
    "save_period": "last.pt is saved after every epoch, and only the newest one is kept",
    "cfg": "give each changed argument by its name",
}
"""Arguments that the job sets itself, each with the alternative for the user."""

FILES: dict[str, str] = {
    "pretrained": "to start from weights, give them as the job's model, such as yolo11n.pt",
    "distill_model": "omit it, because teacher models are not downloaded",
}
"""Arguments that may name a file on the training machine, each with the alternative for the user.

Ultralytics would open any path and fetch any URL."""

_INT8 = {"8", "8.0", "int8", "w8a8"}
"""Values of `quantize` for which Ultralytics does 8-bit quantization-aware training."""


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "int": ("a whole number", lambda value: _is_number(value) and float(value).is_integer()),
    "float": ("a number", _is_number),
    "fraction": ("a number between 0 and 1", lambda value: _is_number(value) and 0 <= value <= 1),
    "str": ("a string", lambda value: isinstance(value, str) and bool(value)),
    "list": ("a list", lambda value: isinstance(value, (list, tuple)) and len(value) > 0),
}
"""For each kind: its description, and a function that returns whether a value is of that kind."""


def _are_class_ids(value: Any) -> bool:
    ids = value if isinstance(value, (list, tuple)) else [value]
    return all(_is_number(number) and float(number).is_integer() for number in ids)


def _is_share_of_images(value: Any) -> bool:
    if not isinstance(value, (list, tuple)):
        return 0 < value <= 1 or (isinstance(value, int) and value > 1)
    shares = [_is_number(part) and (0 <= part <= 1 or (isinstance(part, int) and part > 1)) for part in value]
    return len(value) in {2, 3} and all(shares) and all(value[:2])


_FORMS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "classes": ("a class id, or a list of them, such as [0, 2]", _are_class_ids),
    "fraction": (
        "a share of the training images, up to 1, their number, or a list of these for [train, val(, test)]",
        _is_share_of_images,
    ),
    "quantize": (
        "16, 32, 'fp16', 'fp32', 'w16a16', 'w32a32', 'w8a16' or 'w8a32'",
        lambda value: isinstance(value, str) or (isinstance(value, int) and value in {8, 16, 32}),
    ),
    "scale": (
        "a number between 0 and 1, or the smallest and the largest factor, such as [0.5, 1.5]",
        lambda value: _is_number(value) or (len(value) == 2 and all(map(_is_number, value))),
    ),
}
"""Arguments whose values must have a form that their kinds do not describe, as in `_KINDS`."""

_ANY_CASE = {"amp", "cache", "optimizer", "quantize"}
"""Arguments whose words Ultralytics recognizes in any case."""


@cache
def read_known_arguments() -> dict[str, dict[str, Any]]:
    """Return the pinned version's arguments by name.

    Each has `kinds` and `optional`; some have a `minimum` or `choices`.
    """
    table: dict[str, dict[str, Any]] = json.loads(TABLE.read_text(encoding="utf-8"))["arguments"]
    return table


def check_overrides(overrides: Mapping[str, object]) -> None:
    """Check training arguments by name, kind and range.

    Raises ValueError with one sentence about the first wrong argument. An argument is wrong if Ultralytics
    would not accept it, if it makes no sense, if it needs a package that is not installed, or if the job sets
    it itself.
    """
    _require_small(overrides)
    for name, value in overrides.items():
        if name in OURS:
            raise ValueError(f"{name} cannot be overridden: {OURS[name]}")
        if name not in read_known_arguments():
            raise ValueError(f"{name:.80} is not a training argument of Ultralytics{_suggest_name(name)}")
        _check_value(name, value)


def check_no_files(overrides: Mapping[str, object]) -> None:
    """Raise ValueError if an argument names a file: jobs do not read files on a worker's disk."""
    for name, remedy in FILES.items():
        if isinstance(value := overrides.get(name), str):
            raise ValueError(  # noqa: TRY004 - callers expect ValueError
                f"{name}={show_value(value)} is refused: jobs do not read files on a worker's disk; {remedy}"
            )


def _require_small(overrides: Mapping[str, object]) -> None:
    """Raise ValueError if a number, a string or all values together are larger than any argument needs."""
    unchecked = [(name, value, 1) for name, value in overrides.items()]
    for counted in itertools.count(1):
        if not unchecked:
            return
        name, value, depth = unchecked.pop()
        if counted > OVERRIDES_VALUES:
            raise ValueError(f"overrides has more than {OVERRIDES_VALUES:,} values; shorten overrides")
        if depth > OVERRIDES_DEPTH:
            raise ValueError(f"overrides is nested more than {OVERRIDES_DEPTH} levels deep; flatten it")
        if isinstance(value, (list, tuple)):
            unchecked += [(name, item, depth + 1) for item in value]
        elif isinstance(value, dict):
            unchecked += [(name, item, depth + 1) for item in value.values()]
        elif len(name) > TEXT or (isinstance(value, str) and len(value) > TEXT):
            raise ValueError(f"{show_value(name)} in overrides has more than {TEXT:,} characters; shorten it")
        elif isinstance(value, str) and not is_one_line(value):
            raise ValueError(f"{show_value(name)} in overrides contains a control character; remove it")
        elif isinstance(value, int) and abs(value) > _LARGEST_NUMBER:
            raise ValueError(
                f"{show_value(name)} in overrides is a number of more than 18 digits; shorten it"
            )


def _check_value(name: str, value: Any) -> None:
    argument = read_known_arguments()[name]
    if value is None:
        if argument["optional"]:
            return
        raise ValueError(f"{name}=null is refused: omit it to keep Ultralytics' default")
    if not any(_KINDS[kind][1](value) for kind in argument["kinds"]):
        raise ValueError(f"{name}={show_value(value)} is refused: it must be {_in_words(name, argument)}")
    if name in _FORMS and not _FORMS[name][1](value):
        raise ValueError(f"{name}={show_value(value)} is refused: it must be {_FORMS[name][0]}")
    if _is_number(value) and value < argument.get("minimum", -math.inf):
        raise ValueError(f"{name}={show_value(value)} is refused: it must be {argument['minimum']} or more")
    if isinstance(value, str) and "choices" in argument:
        word = value.lower() if name in _ANY_CASE else value
        if word not in {choice.lower() if name in _ANY_CASE else choice for choice in argument["choices"]}:
            raise ValueError(f"{name}={show_value(value)} is refused: it must be {_in_words(name, argument)}")
    if name == "quantize" and str(value).lower() in _INT8:
        raise ValueError(
            f"quantize={show_value(value)} is refused: training with it needs nvidia-modelopt, which is not "
            "among the requirements; omit quantize, and quantize the finished best.pt when you export it"
        )


def _in_words(name: str, argument: Mapping[str, Any]) -> str:
    if name in _FORMS:
        return _FORMS[name][0]
    words = [_KINDS[kind][0] for kind in argument["kinds"] if kind != "str" or "choices" not in argument]
    words += [repr(choice) for choice in argument.get("choices", [])]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _suggest_name(name: str) -> str:
    close = get_close_matches(name, read_known_arguments(), n=1)
    return (
        f"; did you mean {close[0]}?"
        if close
        else "; they are listed at https://docs.ultralytics.com/modes/train"
    )
