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


def test_modules_without_tests_are_in_support() -> None:
    modules = {file for file in TESTS.rglob("*.py") if not file.is_relative_to(TESTS / "support")}
    helpers = {file for file in modules if not file.name.startswith("test_")}
    assert {file.name for file in helpers} == {"__init__.py", "conftest.py"}
