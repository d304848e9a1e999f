"""The files that make up the console's pages. Files in static/ are served unchanged."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from string import Template

HERE = Path(__file__).parent
STATIC = HERE / "static"
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
"""Types of files that are served. Other files in static/, such as third-party licences, are not served."""


def list_served_files() -> dict[str, Path]:
    """Return all served files, by their paths below static/."""
    found = (path for path in sorted(STATIC.rglob("*")) if path.suffix in MEDIA_TYPES)
    return {path.relative_to(STATIC).as_posix(): path for path in found}


def compute_version(files: dict[str, Path]) -> str:
    """Return a version string, which changes when the content of any file changes."""
    states = ((name, path.stat()) for name, path in files.items())
    return _compute_digest(tuple((name, state.st_mtime_ns, state.st_size) for name, state in states))


def render_page(page: str, title: str, files: dict[str, Path], version: str) -> str:
    """Return the HTML of one page. It lists all shared modules, so that browsers fetch them in parallel."""
    static = f"static/{version}"
    styles = [f'<link rel="stylesheet" href="{static}/{name}">' for name in files if name.endswith(".css")]
    modules = [
        f'<link rel="modulepreload" href="{static}/{name}">'
        for name in files
        if name.endswith(".js") and name != "theme.js" and not name.startswith("pages/")
    ]
    return Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        title=title, page=page, static=static, styles="\n".join(styles), modules="\n".join(modules)
    )


@lru_cache(maxsize=4)
def _compute_digest(stamp: tuple[tuple[str, int, int], ...]) -> str:
    digest = sha256()
    for name, _, _ in stamp:
        digest.update(name.encode() + b"\0" + (STATIC / name).read_bytes())
    return digest.hexdigest()[:16]
