"""The folders of the tests mirror the packages of `include`, and helpers are in `tests/support`."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"

KINDS = {"end_to_end", "faults", "fuzz", "long", "project"}
"""The folders of tests that are not about one package."""


def test_a_folder_of_tests_is_named_after_a_package() -> None:
    folders = {file.parent.relative_to(TESTS) for file in TESTS.rglob("test_*.py")}
    packages = {file.parent.relative_to(ROOT / "include") for file in ROOT.glob("include/**/__init__.py")}
    assert {str(folder) for folder in folders - packages} == KINDS
