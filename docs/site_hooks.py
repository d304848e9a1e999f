"""Hooks for MkDocs: make README.md the first page, and add the files outside docs/ that pages link to.

The pages link to each other by their paths in the repository, as GitHub shows them. MkDocs processes only
files in docs/, so other files are added under repository/, and links to them are rewritten. A folder becomes
a page that lists its files.
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

_LIST = "index.md"
"""The name of the page that lists a folder's files; no file of the repository has this name."""
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add README.md, and every file outside docs/ that can be reached from a page."""
    pages = ["README.md", "CONTRIBUTING.md", "SECURITY.md"]
    pages += [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    seen: set[str] = set(pages)
    while pages:
        path = pages.pop()
        content = _read(path)
        if not path.startswith("docs/"):
            files.append(File.generated(config, _place_of(path), content=content))
        if path.endswith(".md"):
            linked = {_target(path, link) for link in _LINK.findall(content.decode())}
            outside = {each for each in linked if not each.startswith("docs/") and _exists(each)}
            pages += outside - seen
            seen |= outside
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace the repository path in each link with the site path of that file."""
    path = _path_of(page.file.src_uri)
    folder = posixpath.dirname(page.file.src_uri)

    def rewrite(link: re.Match[str]) -> str:
        return posixpath.relpath(_place_of(_target(path, link[0])), folder or ".")

    return _LINK.sub(rewrite, markdown)


def _target(path: str, link: str) -> str:
    """Return the repository path that `link` on page `path` points to; for a folder, the path of its list."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
    return f"{target}/{_LIST}" if (ROOT / target).is_dir() else target


def _exists(path: str) -> bool:
    """Return whether the site can include this path, which must be a file or the list of a folder."""
    return (ROOT / path).is_file() or posixpath.basename(path) == _LIST


def _read(path: str) -> bytes:
    """Return the contents of a file, or the list of a folder's files as Markdown."""
    folder, name = posixpath.split(path)
    if name != _LIST:
        return (ROOT / path).read_bytes()
    names = sorted(each.name for each in (ROOT / folder).iterdir() if each.is_file())
    return "\n".join([f"# {folder}", "", *(f"- [{each}]({each})" for each in names), ""]).encode()


def _place_of(path: str) -> str:
    """Return the site path of a file in the repository."""
    if path == "README.md":
        return "index.md"
    return path.removeprefix("docs/") if path.startswith("docs/") else f"repository/{path}"


def _path_of(place: str) -> str:
    """Return the repository path of the file at `place` in the site: the inverse of `_place_of`."""
    if place == "index.md":
        return "README.md"
    outside = place.startswith("repository/")
    return place.removeprefix("repository/") if outside else f"docs/{place}"
