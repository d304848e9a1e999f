"""The code obeys those conventions of CONTRIBUTING.md that can be counted."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]

TEXTS = {
    str(file.relative_to(ROOT)): file.read_text(encoding="utf-8")
    for folder in ("include", "dags", "plugins")
    for file in sorted((ROOT / folder).rglob("*.py"))
}
FILES = {file: ast.parse(text) for file, text in TEXTS.items()}

FILE_LINES = 300
FUNCTION_LINES = 40

LONG_FILES = {
    "include/stack/local.py",
    "include/training/gpus.py",
    "include/training/resume.py",
}
"""Files that are longer than FILE_LINES. Only remove files from this set."""

LONG_FUNCTIONS = {
    "dags/retrain_yolo.py define_tasks",
    "dags/train_yolo.py train_yolo",
    "include/datasets/check.py inspect_dataset",
    "include/registry/repository.py register",
    "include/stack/airflow.py _settings",
    "include/training/__main__.py _parser",
    "include/training/resume.py restore",
}
"""Functions that are longer than FUNCTION_LINES. Only remove functions from this set."""


def test_no_two_public_classes_have_the_same_name() -> None:
    names = Counter(
        node.name
        for file, tree in FILES.items()
        if file.startswith("include/")
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert not {name for name, count in names.items() if count > 1}


def test_no_other_file_is_too_long() -> None:
    assert {file for file, text in TEXTS.items() if len(text.splitlines()) > FILE_LINES} == LONG_FILES


def count_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of lines of a function, without its decorators and its docstring."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        lines -= (function.body[0].end_lineno or 0) - function.body[0].lineno + 1
    return lines


def test_no_other_function_is_too_long() -> None:
    long = {
        f"{file} {node.name}"
        for file, tree in FILES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and count_lines(node) > FUNCTION_LINES
    }
    assert long == LONG_FUNCTIONS


def test_decorators_and_docstrings_are_not_counted() -> None:
    function = ast.parse('@cache\ndef f(\n    a,\n):\n    """Do\n\n    this."""\n\n    return a\n').body[0]
    assert isinstance(function, ast.FunctionDef)
    assert count_lines(function) == 5
