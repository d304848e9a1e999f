"""Evicts datasets from the cache: the least recently used first, and never a dataset in use.

A dataset disappears from the cache in one step, and is deleted afterwards. If a process is killed before it
has deleted everything, the next eviction deletes the rest. Fetched files that no longer belong to any dataset
are removed, too.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from include.datasets.disk import measure_on_disk, require_room
from include.errors import AttemptError
from include.file_locks import try_lock
from include.limits import in_words
from include.trusted_folders import make_trusted_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.datasets.caching.cache import DatasetCache

log = logging.getLogger(__name__)

_SHARE_OF_DISK = 2
"""If no limit is configured, the cache may use the disk's size divided by this number."""

_WAIT_SECONDS = 600.0
"""How long to wait for another process that is evicting: deleting a million files takes minutes."""

_EVICTED = ".evicted"
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


class EvictionHangs(AttemptError):
    """Another process on this machine has been evicting datasets for too long.

    A later attempt may succeed, or one on another machine.
    """


def make_room(cache: DatasetCache, needed: int = 0) -> None:
    """Evict datasets until `needed` more bytes fit within the cache's limit and on the disk.

    Datasets in use remain, even above the limit.
    """
    with _evict_alone(cache) as trash:
        excess = _compute_excess(cache, needed)
        if excess <= 0:
            return
        excess -= _remove_unlinked(cache)
        homes = _sort_by_last_use(cache)
        while excess > 0 and homes:
            excess -= _evict(cache, homes.pop(0), trash)
        _remove_unlinked(cache)
    if excess > 0:
        log.warning(
            "The dataset cache %s exceeds its limit by %s, because all remaining datasets are in use or "
            "about to be fetched; see DATASET_CACHE_GB.",
            cache.folder,
            in_words(excess),
        )


def make_room_for(source: str, folder: Path, cache: DatasetCache, needed: int) -> None:
    """Evict datasets until `needed` bytes fit into `folder`. Raises DatasetError if the disk is too small."""
    make_room(cache, needed)
    require_room(folder, needed, source)


def measure(cache: DatasetCache) -> int:
    """Return the size of the cache on the disk, in bytes."""
    total = 0
    with suppress(FileNotFoundError):
        total += measure_on_disk(cache.known_files.stat())
    for entry in cache.files.list_files():
        with suppress(FileNotFoundError):
            total += measure_on_disk(entry.stat(follow_symlinks=False))
    return total + sum(map(_measure_own, _list_homes(cache)))


def _compute_excess(cache: DatasetCache, needed: int) -> int:
    """Return how many bytes must be evicted to make room for `needed` more."""
    disk = shutil.disk_usage(cache.folder)
    limit = disk.total // _SHARE_OF_DISK if cache.limit is None else cache.limit
    lacking = needed - disk.free
    # Measuring a large cache takes seconds. It is not necessary if everything on the disk, which includes the
    # cache, is within the limit.
    if disk.used + needed <= limit:
        return lacking
    return max(lacking, measure(cache) + needed - limit)


@contextmanager
def _evict_alone(cache: DatasetCache) -> Iterator[Path]:
    """Wait until no other process is evicting; yield the folder into which datasets are moved for deletion.

    Raises EvictionHangs.
    """
    trash = make_trusted_folder(cache.folder / _EVICTED)
    lock = make_trusted_folder(cache.locks) / "eviction"
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    deadline = time.monotonic() + _WAIT_SECONDS
    try:
        while not try_lock(descriptor):
            if time.monotonic() > deadline:
                raise EvictionHangs(
                    f"Another process has been evicting datasets from {cache.folder} for "
                    f"{_WAIT_SECONDS / 60:.0f} minutes. It seems to be stuck: find it with fuser {lock}, and "
                    "end it"
                )
            time.sleep(0.1)
        for remainder in list(trash.iterdir()):
            _delete(remainder)
        _remove_idle_locks(cache)
        yield trash
    finally:
        os.close(descriptor)


def _remove_idle_locks(cache: DatasetCache) -> None:
    """Remove the lock files that killed processes left behind for datasets that are not in the cache."""
    for lock in list(cache.locks.iterdir()):
        home = cache.folder / lock.name
        if not _FINGERPRINT.fullmatch(lock.name) or home.exists():
            continue
        with ExitStack() as locks:
            # A process that is about to create the folder holds the lock, or notices that its file is gone.
            if _lock_unused(lock, locks) and not home.exists():
                lock.unlink(missing_ok=True)


def _list_homes(cache: DatasetCache) -> list[Path]:
    return [path for path in cache.folder.iterdir() if _FINGERPRINT.fullmatch(path.name)]


def _sort_by_last_use(cache: DatasetCache) -> list[Path]:
    """Return the folders of all datasets, the least recently used first."""

    def read_last_use(home: Path) -> float:
        for path in (cache.locks / home.name, home):
            with suppress(FileNotFoundError):
                return path.stat().st_mtime
        return 0.0

    return sorted(_list_homes(cache), key=read_last_use)


def _evict(cache: DatasetCache, home: Path, trash: Path) -> int:
    """Remove a dataset unless it is in use. Returns the number of bytes freed, as counted by `_remove`."""
    removed = trash / uuid4().hex
    with ExitStack() as locks:
        lock = cache.locks / home.name
        with suppress(PermissionError):  # the lock belongs to another account, which may be using the dataset
            lock.touch(mode=0o660)  # without this file, another process could begin to use the dataset now
        # In the dataset's folder: the locks of single folders, the only ones that an earlier release holds.
        if not all(_lock_unused(path, locks) for path in (lock, *home.glob("*lock"))):
            return 0
        try:
            home.rename(removed)
        except OSError as error:
            log.warning("%s cannot be evicted from the cache: %s", home, error)
            return 0
        lock.unlink(missing_ok=True)
    freed = _delete(removed)
    log.info("Evicted dataset %s from the cache, which frees %s.", home.name[:12], in_words(freed))
    return freed


def _lock_unused(path: Path, locks: ExitStack) -> bool:
    """Lock the file, if it exists, until `locks` closes. Returns False if another process may hold it."""
    try:
        # NFS locks only files that are open for writing.
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except PermissionError:  # the file belongs to another account, which may be using the dataset
        return False
    locks.callback(os.close, descriptor)
    return try_lock(descriptor)


def _delete(folder: Path) -> int:
    """Delete a folder; return the number of bytes freed. If that fails, log the error and return 0."""
    try:
        return _remove(folder)
    except OSError as error:
        log.warning("%s cannot be deleted: %s", folder, error)
        return 0


def _remove(folder: Path) -> int:
    """Delete a folder; return the number of bytes freed.

    The number includes files in the store that no other dataset uses; `_remove_unlinked` frees them later.
    """
    freed = 0
    with suppress(FileNotFoundError):
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    freed += _remove(Path(entry.path))
                    continue
                found = entry.stat(follow_symlinks=False)
                freed += measure_on_disk(found) if found.st_nlink <= 2 else 0  # the second link is in files/
                Path(entry.path).unlink()
        freed += measure_on_disk(folder.stat())
        folder.rmdir()
    return freed


def _remove_unlinked(cache: DatasetCache) -> int:
    """Remove the files that belong to no dataset; return their size."""
    freed = 0
    for entry in cache.files.list_files():
        with suppress(FileNotFoundError):
            found = entry.stat(follow_symlinks=False)
            if found.st_nlink == 1:
                Path(entry.path).unlink()
                freed += measure_on_disk(found)
    return freed


def _measure_own(folder: Path) -> int:
    """Return the size of a dataset's folder, excluding the files that have other links."""
    total = 0
    with suppress(FileNotFoundError, PermissionError):
        total += measure_on_disk(folder.stat())
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    total += _measure_own(Path(entry.path))
                else:
                    found = entry.stat(follow_symlinks=False)
                    total += measure_on_disk(found) if found.st_nlink == 1 else 0
    return total
