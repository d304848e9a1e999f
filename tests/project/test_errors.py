"""Each error class says whether a retry can help, and include/errors.py draws the tree of all classes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from include import errors

ROOT = Path(__file__).parents[2]
KINDS = {"FinalError", "TransientError", "AttemptError"}
MEET_NO_SCHEDULER = {"api", "serving", "stack", "console"}
"""Packages whose errors become API responses or output of `make`, so that no task retries them."""
CAUGHT_AT_ONCE = {
    "SideEffect",
    "LeadsOutside",
    "NothingToDo",
    "UnusableImage",
    "FetchRefused",
    "InvalidBundle",
    "FieldError",
    "NotKnown",
}
"""Errors that the raising package itself catches, or converts to an error of the tree."""


@cache
def bases() -> dict[str, list[str]]:
    """Return the public classes of include/ that are exceptions, each with its base classes."""
    found: dict[str, list[str]] = {}
    for file in sorted((ROOT / "include").rglob("*.py")):
        if file.relative_to(ROOT / "include").parts[0] in MEET_NO_SCHEDULER:
            continue
        for each in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(each, ast.ClassDef) and each.bases and not each.name.startswith("_"):
                assert not is_exception(each.name, found), f"two errors have the name {each.name}"
                found[each.name] = [ast.unparse(base) for base in each.bases]
    return {name: of for name, of in found.items() if is_exception(name, found)}


def is_exception(name: str, found: dict[str, list[str]]) -> bool:
    builtin = getattr(__import__("builtins"), name, None)
    if isinstance(builtin, type):
        return issubclass(builtin, Exception)
    return any(is_exception(base, found) for base in found.get(name, ()))


def kinds(name: str) -> set[str]:
    """Return the kinds (of the three in KINDS) that an error has."""
    return ({name} & KINDS).union(*(kinds(base) for base in bases().get(name, ())))


def drawn(name: str, depth: int = 0) -> Iterator[str]:
    """Draw the tree below an error: each class below its first base, with the kind of a second base."""
    kind = KINDS & set(bases()[name][1:])
    yield f"{'  ' * depth}{name}{f' ({kind.pop()})' if kind else ''}"
    for each in sorted(each for each, of in bases().items() if of[0] == name):
        yield from drawn(each, depth + 1)


def test_all_errors_are_in_the_tree() -> None:
    outside = [name for name in bases() if "ProjectError" not in ancestors(name)]
    assert set(outside) - {"ProjectError"} == CAUGHT_AT_ONCE


def ancestors(name: str) -> set[str]:
    own = bases().get(name, [])
    return set(own).union(*(ancestors(base) for base in own))


def test_every_raised_error_says_whether_a_retry_can_help() -> None:
    families = {base for of in bases().values() for base in of}
    undecided = [name for name in bases() if name not in families | CAUGHT_AT_ONCE and len(kinds(name)) != 1]
    assert not undecided, f"FinalError, TransientError or AttemptError? {undecided}"


def test_the_tree_is_drawn_in_the_docstring() -> None:
    tree = "\n".join(drawn("ProjectError"))
    assert tree in (errors.__doc__ or ""), f"include/errors.py must draw this tree:\n{tree}"
