"""All files, headings, tests and limits that the documentation names exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from include import limits
from include.datasets.checking.kinds import KINDS

ROOT = Path(__file__).parents[2]
UNITS = {"KIB", "MIB", "GIB"}
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("name", ["README.md", "README.ko.md"])
def test_a_readme_has_at_most_150_lines(name: str) -> None:
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= 150


def _headings(document: Path) -> set[str]:
    """Return the anchors of the document's headings."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_into_a_page_leads_to_a_heading(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", document.read_text(encoding="utf-8"))
    for target, heading in links:
        page = document.parent / target if target else document
        assert page.suffix != ".md" or heading in _headings(page), f"{target}#{heading}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_row_of_a_table_has_the_cells_of_its_header(document: Path) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", document.read_text(encoding="utf-8"), flags=re.MULTILINE):
        rows = table.splitlines()
        assert re.fullmatch(r"\|(:?-+:?\|)+", "".join(rows[1:2]).replace(" ", "")), rows[0]
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1, rows[0]


def test_lint_builds_the_site_which_fails_on_a_broken_link() -> None:
    command = ["make", "--dry-run", "lint"]
    lint = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "mkdocs build --strict" in lint


def test_the_architecture_page_names_every_package_and_stays_short() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    packages = {path.parent.name for path in ROOT.glob("include/*/__init__.py")}
    assert packages <= set(re.findall(r"\binclude/(\w+)", page))
    assert len(page.splitlines()) <= 100


@pytest.mark.parametrize("name", ["architecture.md", "code-map.md"])
def test_the_pages_about_the_code_name_existing_paths_and_what_they_contain(name: str) -> None:
    page = " ".join((ROOT / "docs" / name).read_text(encoding="utf-8").split())
    paths = re.findall(r"`((?:include|dags|plugins|sql|tests)/[\w./-]*)`", page)
    assert len(paths) > 40
    for path in paths:
        assert (ROOT / path).exists(), path
    named = re.findall(r"`([A-Za-z_]+(?:\.[A-Za-z_]+)?)`,? in `([\w/]+\.(?:py|js))`", page)
    assert len(named) > 5
    gone = [
        f"{name} in {path}"
        for name, path in named
        if not re.search(rf"\b{name.rpartition('.')[2]}\b", (ROOT / path).read_text(encoding="utf-8"))
    ]
    assert not gone


def _tests_named_in(text: str) -> list[str]:
    """Return the files of the tests that the text names; fail for a test that does not exist."""
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    for file, test in named:
        assert f"def {test}" in (ROOT / file).read_text(encoding="utf-8"), (file, test)
    return [file for file, _ in named]


def test_every_guarantee_names_an_existing_test() -> None:
    page = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    promises = re.findall(r"^\| (?!promise |---)(.+) \|$", page, flags=re.MULTILINE)
    assert len(promises) > 75
    for promise in promises:
        assert _tests_named_in(promise), promise


def test_every_ticked_checklist_item_links_to_a_guarantee_or_names_a_test() -> None:
    checklist = (ROOT / "docs/planning/MVP_TO_PLATFORM_CHECKLIST.md").read_text(encoding="utf-8")
    boxes = re.findall(r"^- \[x\] .*?(?=^- \[|^#|^\n|\Z)", checklist, flags=re.MULTILINE | re.DOTALL)
    assert len(boxes) > 25
    for box in boxes:
        assert "](../guarantees.md#" in box or _tests_named_in(box), box


def test_every_limit_is_documented() -> None:
    documentation = (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8")
    values = {name: value for name, value in vars(limits).items() if name.isupper() and name not in UNITS}
    assert len(values) > 25
    for name, value in values.items():
        shown = {f"{value:,}", limits.in_words(value), f"{value // 10**6} megapixels"}
        assert any(re.search(rf"\b{re.escape(text)}\b", documentation) for text in shown), name


def test_every_kind_of_finding_is_documented_in_the_words_of_the_reports() -> None:
    text = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    for name, kind in KINDS.items():
        reason = f": {kind.reason}" if kind.reason else ""
        assert f"| `{name}` | {kind.title} | {kind.remedy}{reason} |" in text


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_command_copies_within_s3_without_the_metadata(document: Path) -> None:
    """`aws s3 cp` of version 1 copies objects above 8 MB in parts, and omits their metadata."""
    assert not re.search(r"aws .*s3 (cp|mv|sync) s3://\S+ s3://", document.read_text(encoding="utf-8"))
