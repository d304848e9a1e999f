"""Of the files dropped onto the datasets page, the browser omits those that the check would ignore."""

from __future__ import annotations

import json

import pytest

from include.datasets.names import is_ignored
from tests.support.node import evaluate, needs_node

pytestmark = needs_node

PATHS = (
    "data.yaml", "images/train/a.jpg", "labels/train.cache", "labels/train.cache/a.txt", "images/a.npy",
    "depth/train/a.npy", "depth.npy", "a/depth/b/c.NPY", "depth/.hidden/a.npy", ".git/config", "a/.DS_Store",
    "__MACOSX/a.jpg", "__MACOSX", "images/Thumbs.db", "Thumbs.db/a.jpg", "images/a.CACHE", "Depth/a.npy",
)  # fmt: skip


@pytest.fixture(scope="module")
def ignored() -> dict[str, bool]:
    listed = json.dumps(PATHS)
    found: dict[str, bool] = evaluate(
        "dropped-files.js", f"Object.fromEntries({listed}.map((path) => [path, module.isIgnored(path)]))"
    )
    return found


@pytest.mark.parametrize("path", PATHS)
def test_the_browser_ignores_the_files_that_the_check_ignores(path: str, ignored: dict[str, bool]) -> None:
    assert ignored[path] == is_ignored(tuple(path.split("/")))
