"""The view that Ultralytics gets as `data`: a folder with links to exactly the files that were checked.

The view contains nothing else from the source. Ultralytics would unpickle a `*.cache`, load an `*.npy`
instead of the image beside it, and run a `download` in the data YAML. Files that Ultralytics writes next to
images and labels, such as caches and repaired JPEG files, stay in the view. So neither the user's folder nor
the fetched content ever changes.

Two training runs on a machine never use the same view at the same time, because Ultralytics removes label
caches and .npy files that another process is still writing. So each run locks the first view that is free.
Later runs reuse views together with their caches. The lock is held until the last process that uses the view
has ended. The loader workers of a killed run hold it for a few seconds, until they notice that the run ended.

If a dataset is repaired, its views are outdated, and a file {view}.outdated marks each of them. The next run
that locks such a view removes it, together with the caches of damaged files. A file {view}.files has the
number of files in the view. If some are missing, for example because a program removes old files from /tmp,
the view is created again: Ultralytics would train without these images, or without their labels.
"""

from __future__ import annotations

import functools
import logging
import os
import shutil
import time
from contextlib import contextmanager, suppress
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import yaml

from include.datasets.arrays import is_whole
from include.datasets.caching.file_store import NO_LINKS
from include.datasets.checking.label_files import DEPTHS, build_label_path
from include.datasets.disk import flush_file, is_file
from include.datasets.layouts.layout import read_layout
from include.datasets.layouts.samples import DatasetLocation
from include.datasets.progress import ProgressLog
from include.datasets.shares import BATCH, share_out
from include.file_locks import try_lock
from include.trusted_folders import make_trusted_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.datasets.layouts.samples import Layout
    from include.datasets.rules import Split
    from include.ultralytics_tasks import Task

log = logging.getLogger(__name__)

_ORPHANS_SECONDS = 30.0
"""How long to wait for the loader workers of a killed process; they check every 5 s whether it still runs."""


def read_and_fill_view(
    location: dict[str, Any], task: Task, split: Split, partial: str, final: str, processes: int
) -> None:
    """Write the view of the data at `location`; runs in a confined process, to free the memory afterwards."""
    fill_view(
        read_layout(DatasetLocation.from_json(location), task, split), Path(partial), Path(final), processes
    )


def fill_view(layout: Layout, partial: Path, final: Path, processes: int = 1) -> None:
    """Write the view into `partial`, a folder that will be renamed to `final`.

    With several `processes`, the current process must have no other threads.
    """
    progress = ProgressLog("Linking", sum(map(len, layout.splits.values())), "images")
    for split, samples in layout.splits.items():
        link = functools.partial(_link, layout, split, partial, final.parent)
        for done in share_out(link, len(samples), processes):
            progress.advance(done)
    if layout.task != "classify":
        _write_description(layout, partial, final)
    _locate_count(final).write_text(str(_count_files(partial)))


def has_all_links(view: Path) -> bool:
    """Return whether no link is missing from a view; False for a view that an earlier release created."""
    try:
        return int(_locate_count(view).read_text()) == _count_files(view)
    except (FileNotFoundError, ValueError):
        return False


def _locate_count(view: Path) -> Path:
    """Return the path of the file with the number of files in a view."""
    return view.with_name(f"{view.name}.files")


def _count_files(view: Path) -> int:
    """Count the links in a view and its data YAML, but not the files that Ultralytics writes beside them."""
    count = 0
    for folder, _, files in os.walk(view):
        caches = (".cache",) if Path(folder).is_relative_to(view / DEPTHS.in_view) else (".cache", ".npy")
        count += sum(not file.startswith(".") and not file.endswith(caches) for file in files)
    return count


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

    A fetched file gets a hard link, which takes no space on the disk, or else a symbolic link, which takes an
    inode. Hard links are safe: Ultralytics never changes an image or a label file in place, but replaces it.
    A user's file gets a symbolic link, because a hard link would change its ctime.
    """

    def __init__(self, home: Path) -> None:
        self._home = f"{home}{os.sep}"
        self._folders: set[str] = set()

    def add(self, link: str, target: str) -> None:
        """Create a link if the target exists: an image without labels need not have a label file."""
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


@contextmanager
def lock_view(home: Path, name: str) -> Iterator[Path]:
    """Lock the first free folder of `home`/`name`, `home`/`name`-2, ... until the context ends.

    The folder need not exist yet. Raises UntrustedFolder if `home` is not trustworthy.
    """
    make_trusted_folder(home)
    for number in count(1):
        view = home / (name if number == 1 else f"{name}-{number}")
        descriptor = os.open(f"{view}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if _lock(descriptor):
                _remove_outdated(view)
                _remove_unfinished(view, descriptor)
                yield view
                os.ftruncate(descriptor, 0)
                return
        finally:
            os.close(descriptor)


def mark_outdated(home: Path) -> None:
    """Mark all views of a dataset as outdated: each is removed and created again when it is next used."""
    for view in home.glob("view-*"):
        if view.is_dir() and not view.suffix:  # unfinished views have a suffix
            _locate_mark(view).touch()


def _locate_mark(view: Path) -> Path:
    return view.with_name(f"{view.name}.outdated")


def _remove_outdated(view: Path) -> None:
    """Remove the view if it is marked; remove the mark last, so that an interrupted removal is repeated."""
    if _locate_mark(view).exists():
        log.info("Removing %s, because files of its dataset were damaged and have been replaced.", view)
        if view.is_dir():
            shutil.rmtree(view)
        _locate_mark(view).unlink()


def _lock(descriptor: int) -> bool:
    """Lock the open file, waiting for the workers of a killed run. Returns False if it stays locked."""
    deadline = time.monotonic() + _ORPHANS_SECONDS
    while not try_lock(descriptor):
        user = _read_user(descriptor)  # None: the process has not written its id yet
        if user is None or psutil.pid_exists(user) or time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _remove_unfinished(view: Path, descriptor: int) -> None:
    """Record this process as the user of the view, and remove half-written .npy files of a killed process.

    An .npy file is a decoded image or, if it has a second hard link, a depth map of the dataset. Ultralytics
    does not always notice a truncated image. It does notice a truncated label cache, so that may stay.
    """
    if _read_user(descriptor) is not None:
        for image in view.rglob("*.npy"):
            if image.lstat().st_nlink == 1 and not image.is_symlink() and not is_whole(image):
                log.info("Removing %s, which an interrupted training run did not finish writing.", image)
                image.unlink()
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)


def _read_user(descriptor: int) -> int | None:
    """Return the id of the process that holds the lock or died while holding it; None if none is recorded."""
    written = os.pread(descriptor, 20, 0)
    return int(written) if written.isdigit() else None
