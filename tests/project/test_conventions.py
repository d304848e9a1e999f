"""The code obeys those conventions of CONTRIBUTING.md that can be counted."""

from __future__ import annotations

import ast
import re
from collections import Counter
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).parents[2]

TEXTS = {
    str(file.relative_to(ROOT)): file.read_text(encoding="utf-8")
    for folder in ("include", "dags", "plugins")
    for file in sorted((ROOT / folder).rglob("*.py"))
}
NODES = [(file, node) for file, text in TEXTS.items() for node in ast.walk(ast.parse(text))]
"""Every node of every file's syntax tree."""

FILE_LINES = 300
FUNCTION_LINES = 40

LONG_FUNCTIONS = {
    "dags/retrain_yolo.py define_tasks",
    "dags/train_yolo.py train_yolo",
}
"""Functions that are longer than FUNCTION_LINES. Only remove functions from this set."""


FOREIGN_MESSAGES = {
    "include/datasets/disk.py": "CPython has no class for a thread that could not be started",
    "include/stack/postgres.py": "libpq returns no code for a failed connection",
    "include/training/library_errors.py": "PyTorch and OpenCV have no class for a lack of memory, for a GPU "
    "that failed, or for the end of PyTorch's thread, and Ultralytics has none for unreadable images",
}
"""Modules that recognize another project's error by its message, each with the reason. Our own errors have
classes and fields."""


def test_no_decision_depends_on_the_text_of_our_own_errors() -> None:
    decides = re.compile(
        r"in str\(error\)|str\(error\) ==|str\(error\)\.(lower|startswith|endswith)|"
        r"\.(match|search|fullmatch)\(str\(error\)"
    )
    assert {file for file, text in TEXTS.items() if decides.search(text)} == FOREIGN_MESSAGES.keys()


def test_no_two_public_classes_have_the_same_name() -> None:
    names = Counter(
        node.name
        for file, node in NODES
        if file.startswith("include/") and isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert not {name for name, count in names.items() if count > 1}


def test_no_file_is_too_long() -> None:
    assert not {file for file, text in TEXTS.items() if len(text.splitlines()) > FILE_LINES}


def count_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of lines of a function, without its decorators and its docstring."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        lines -= (function.body[0].end_lineno or 0) - function.body[0].lineno + 1
    return lines


def test_no_other_function_is_too_long() -> None:
    long = {
        f"{file} {node.name}"
        for file, node in NODES
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and count_lines(node) > FUNCTION_LINES
    }
    assert long == LONG_FUNCTIONS


def test_decorators_and_docstrings_are_not_counted() -> None:
    function = ast.parse('@cache\ndef f(\n    a,\n):\n    """Do\n\n    this."""\n\n    return a\n').body[0]
    assert isinstance(function, ast.FunctionDef)
    assert count_lines(function) == 5


def list_undocumented_fields(cls: ast.ClassDef) -> list[str]:
    """Return the fields that neither a docstring below them nor `description=` explains."""
    return [
        f"{cls.name}.{ast.unparse(field.target)}"
        for field, below in zip_longest(cls.body, cls.body[1:])
        if isinstance(field, ast.AnnAssign)
        and not ast.unparse(field.target).startswith("_")
        and "ClassVar" not in ast.unparse(field.annotation)
        and not re.search(r"\b(description=|nullable\()", ast.unparse(field))
        and not (isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant))
    ]


def test_every_field_of_a_public_class_is_documented() -> None:
    assert not [
        f"{file} {field}"
        for file, node in NODES
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        for field in list_undocumented_fields(node)
    ]


def test_functions_are_named_by_verbs_and_not_by_participles() -> None:
    """Properties, context managers and decorators may be called what they are or do: `typed_task`."""
    participle = re.compile(
        r"_*(?!need|feed|seed|speed|embed|proceed|exceed)([a-z]+?ed|known|found|shown|written)(_|$)"
    )
    found = {
        f"{file} {node.name}"
        for file, node in NODES
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and participle.match(node.name)
        and not re.search(r"property|contextmanager", " ".join(map(ast.unparse, node.decorator_list)))
    }
    assert found == {"include/orchestration/typed_task.py typed_task"}
