"""A local package index with packages made for a test."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from zipfile import ZipFile

from tests.support.http_server import Server


class PackageIndex:
    """A folder served as a package index; the server's folder listings are the pages of the index."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url

    def add(self, name: str, *metadata: str) -> str:
        """Publish version 1.0 of an empty package; return the SHA-256 of its wheel."""
        wheel = self.folder / name / f"{name}-1.0-py3-none-any.whl"
        wheel.parent.mkdir()
        with ZipFile(wheel, "w") as archive:
            archive.writestr(f"{name}.py", "")
            for file, lines in {
                "METADATA": ["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *metadata],
                "WHEEL": ["Wheel-Version: 1.0", "Root-Is-Purelib: true", "Tag: py3-none-any"],
                "RECORD": [],
            }.items():
                archive.writestr(f"{name}-1.0.dist-info/{file}", "".join(f"{line}\n" for line in lines))
        return hashlib.sha256(wheel.read_bytes()).hexdigest()


@contextmanager
def package_index(folder: Path) -> Iterator[PackageIndex]:
    """Serve an empty package index; yield it."""
    with Server(partial(SimpleHTTPRequestHandler, directory=str(folder))) as server:
        simple = folder / "simple"
        # `make setup` requests this page to see whether the index can be reached.
        (simple / "pip").mkdir(parents=True)
        yield PackageIndex(simple, f"{server.url}/simple")
