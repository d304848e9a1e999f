"""The code obeys those conventions of CONTRIBUTING.md that can be counted."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]

FILES = {
    str(file.relative_to(ROOT)): ast.parse(file.read_text(encoding="utf-8"))
    for folder in ("include", "dags", "plugins")
    for file in sorted((ROOT / folder).rglob("*.py"))
}

NAMED_TWICE = {"FetchedObject"}
"""Public class names that two classes have. Only remove names from here."""


def test_no_two_public_classes_have_the_same_name() -> None:
    names = Counter(
        node.name
        for file, tree in FILES.items()
        if file.startswith("include/")
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name for name, count in names.items() if count > 1} == NAMED_TWICE
