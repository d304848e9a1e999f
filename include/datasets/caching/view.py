"""The view that Ultralytics gets as `data`: a folder with links to exactly the files that were checked.

The view contains nothing else from the source: no `*.cache` (which Ultralytics would unpickle), no `*.npy`
beside an image (which it would load instead of the image), and no `download` in the data YAML (which it would
run). Files that Ultralytics writes next to images and labels, such as caches and repaired JPEG files, stay in
the view, so that neither the user's folder nor the fetched content is ever changed.
"""

from __future__ import annotations

import functools
import os
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from include.datasets.caching.file_store import NO_LINKS
from include.datasets.checking.label_files import build_label_path
from include.datasets.disk import flush_file, is_file
from include.datasets.layouts.layout import read_layout
from include.datasets.layouts.samples import DatasetLocation
from include.datasets.progress import ProgressLog
from include.datasets.shares import BATCH, share_out

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.datasets.layouts.samples import Layout
    from include.datasets.rules import Split
    from include.ultralytics_tasks import Task


def read_and_fill_view(
    location: dict[str, Any], task: Task, split: Split, partial: str, final: str, processes: int
) -> None:
    """Write the view of the data at `location`; runs in a confined process, to free the memory afterwards."""
    fill_view(
        read_layout(DatasetLocation.from_json(location), task, split), Path(partial), Path(final), processes
    )


def fill_view(layout: Layout, partial: Path, final: Path, processes: int = 1) -> None:
    """Write the view into `partial`, a folder that will be renamed to `final`.

    If `processes` is more than 1, the current process must have no other threads.
    """
    progress = ProgressLog("Linking", sum(map(len, layout.splits.values())), "images")
    for split, samples in layout.splits.items():
        link = functools.partial(_link, layout, split, partial, final.parent)
        for done in share_out(link, len(samples), processes):
            progress.advance(done)
    if layout.task != "classify":
        _write_description(layout, partial, final)


def _link(layout: Layout, split: Split, partial: Path, home: Path, numbers: range) -> Iterator[int]:
    """Link the images with these numbers, and their labels; yield the size of each finished batch."""
    links, done = _Links(home), 0
    folder = partial if layout.task == "classify" else partial / "images"
    for sample in islice(layout.splits[split], numbers.start, numbers.stop):
        image = f"{folder}{os.sep}{split}{os.sep}{sample.name}"
        links.add(image, sample.image)
        if sample.label:
            # Ultralytics looks for the label at this path, which also depends on folders within the split.
            links.add(build_label_path(image, partial, layout.labels.in_view, sample.suffix), sample.label)
        done += 1
        if done >= BATCH:
            yield done
            done = 0
    yield done


def find_data_argument(view: Path, task: Task) -> Path:
    """Return Ultralytics' argument `data`: the folder for classify, otherwise the data YAML."""
    return view if task == "classify" else view / "data.yaml"


class _Links:
    """Creates links to files below `home`, the folder of a fetched dataset, and to a user's files.

    A fetched file gets an additional hard link, which takes no space on the disk, or a symbolic link, which
    takes an inode, if no hard link is possible. Hard links are safe, because Ultralytics never changes an
    image or a label file in place, but replaces it with a new file. A user's file gets a symbolic link,
    because a hard link would change its ctime.
    """

    def __init__(self, home: Path) -> None:
        self._home = f"{home}{os.sep}"
        self._folders: set[str] = set()

    def add(self, link: str, target: str) -> None:
        """Create a link if the target exists; the label file of an image without labels does not."""
        folder = link.rpartition(os.sep)[0]
        if folder not in self._folders:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self._folders.add(folder)
        with suppress(FileExistsError, FileNotFoundError):  # a.jpg and a.png share labels
            if not target.startswith(self._home):
                if is_file(target):
                    os.symlink(target, link)  # noqa: PTH211
                return
            try:
                os.link(target, link, follow_symlinks=False)
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                os.symlink(os.path.relpath(target, folder), link)  # noqa: PTH211


def _write_description(layout: Layout, partial: Path, final: Path) -> None:
    validation = f"images/{layout.validation}"
    description = {
        "path": str(final),
        "train": "images/train",
        # Ultralytics requires `val` even if it validates with `test`.
        "val": validation,
        **({"test": validation} if layout.validation == "test" else {}),
        "names": layout.names,
        **layout.extras,
    }
    file = partial / "data.yaml"
    file.write_text(yaml.safe_dump(description, sort_keys=False, allow_unicode=True), encoding="utf-8")
    flush_file(file)  # without this, a power cut could leave a view with an empty file
