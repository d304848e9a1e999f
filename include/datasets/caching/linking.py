"""Links the objects of a dataset to files that this machine already has, and lists the missing objects."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.datasets.caching.file_store import FileStore, compute_object_key
from include.datasets.caching.listing import read_objects, write_objects
from include.datasets.disk import round_to_blocks
from include.datasets.errors import DatasetError
from include.datasets.progress import ProgressLog
from include.datasets.shares import BATCH, share_out
from include.datasets.sources import S3Tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.datasets.storage import StoredObject


@dataclass
class MissingData:
    """How much of a dataset this machine lacks."""

    files: int = 0
    """Number of missing files."""
    size: int = 0
    """Total size of these files in bytes."""
    needed: int = 0
    """Bytes that these files take on the disk."""


@dataclass
class _Batch:
    """The result of linking a batch of objects."""

    done: int
    """The number of these objects."""
    lacking: list[tuple[str, StoredObject]]
    """The objects that this machine lacks, with their names."""


def link_objects(
    origin: dict[str, Any],
    count: int,
    listing: str,
    target: str,
    store: str,
    lacking: str,
    processes: int = 1,
) -> dict[str, int]:
    """Link the objects that are in `store` into `target`; return the fields of MissingData.

    The file `listing` names all `count` objects. The objects that this machine lacks are written to the file
    `lacking`. A link protects a file: it remains if another dataset that shares it is evicted. If `processes`
    is more than 1, the current process must have no other threads, as in a confined process. Raises OSErrors,
    and DatasetError if an object has the same name as a folder that contains other objects.
    """
    tree = S3Tree(**origin)
    link = partial(_link, tree, Path(listing), target, FileStore(Path(store)))
    progress, total = ProgressLog(f"Linking {tree.uri}", count, "files"), MissingData()
    with explain_clash(tree.uri, Path(target)), write_objects(Path(lacking), tree) as write:
        for batch in share_out(link, count, processes):
            progress.advance(batch.done)
            for name, stored in batch.lacking:
                write(name, stored)
                total.files += 1
                total.size += stored.size
                total.needed += round_to_blocks(stored.size)
    return asdict(total)


@contextmanager
def explain_clash(uri: str, target: Path) -> Iterator[None]:
    """Raise DatasetError for an object whose name is also a folder of other objects."""
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        name = str(error.filename2 or error.filename).removeprefix(f"{target}{os.sep}")
        raise DatasetError(
            f"{uri} contains an object whose name is also a folder of other objects: {name}. Rename that "
            "object"
        ) from error


def _link(origin: S3Tree, listing: Path, target: str, store: FileStore, numbers: range) -> Iterator[_Batch]:
    """Link the objects with these numbers."""
    folders: set[str] = set()
    batch = _Batch(0, [])
    for name, stored in read_objects(listing, origin, numbers):
        folder = name.rpartition("/")[0]
        if folder not in folders:
            Path(target, folder).mkdir(parents=True, exist_ok=True)
            folders.add(folder)
        if not store.link(compute_object_key(stored), stored.size, f"{target}/{name}"):
            batch.lacking.append((name, stored))
        batch.done += 1
        if batch.done >= BATCH:
            yield batch
            batch = _Batch(0, [])
    yield batch
