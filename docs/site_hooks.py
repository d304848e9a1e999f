"""Hooks of MkDocs: make README.md the first page, and add the files outside docs/ that pages link to.

The pages link to each other by their paths in the repository, as GitHub shows them. MkDocs knows only
files below docs/, so each other file gets a place below repository/, and the links to it are rewritten.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]

_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add README.md, and every file outside docs/ that can be reached from a page."""
    pages = ["README.md", "CONTRIBUTING.md", "SECURITY.md"]
    pages += [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    seen: set[str] = set(pages)
    while pages:
        path = pages.pop()
        if not path.startswith("docs/"):
            content = (ROOT / path).read_bytes()
            files.append(File.generated(config, _place_of(path), content=content))
        if path.endswith(".md"):
            links = _LINK.findall((ROOT / path).read_text(encoding="utf-8"))
            linked = {_target(path, link) for link in links}
            outside = {each for each in linked if not each.startswith("docs/") and (ROOT / each).is_file()}
            pages += outside - seen
            seen |= outside
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite each link from a path in the repository to the place of that file in the site."""
    path = _path_of(page.file.src_uri)
    folder = posixpath.dirname(page.file.src_uri)

    def rewrite(link: re.Match[str]) -> str:
        return posixpath.relpath(_place_of(_target(path, link[0])), folder or ".")

    return _LINK.sub(rewrite, markdown)


def _target(path: str, link: str) -> str:
    """Return the path in the repository of what a page at `path` links to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link))


def _place_of(path: str) -> str:
    """Return where a file of the repository is in the site."""
    if path == "README.md":
        return "index.md"
    return path.removeprefix("docs/") if path.startswith("docs/") else f"repository/{path}"


def _path_of(place: str) -> str:
    """Return the path in the repository of what is at that place: the reverse of `_place_of`."""
    if place == "index.md":
        return "README.md"
    outside = place.startswith("repository/")
    return place.removeprefix("repository/") if outside else f"docs/{place}"
