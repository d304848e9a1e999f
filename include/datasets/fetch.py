"""Makes checked data available on the machine that trains."""

from __future__ import annotations

import hashlib
import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.datasets import digits
from include.datasets.boundary import DatasetRoots
from include.datasets.content import ensure_folder, fetch_tree, fetch_zip, is_complete, require_expected
from include.datasets.errors import DatasetError
from include.datasets.fingerprint import content_fingerprint, stat_digest
from include.datasets.layout import read_layout
from include.datasets.samples import Place
from include.datasets.sources import Digits, LocalPath, S3Tree, S3Zip, find_local, parse_source
from include.datasets.view import data_argument, fill_view
from include.datasets.view_lock import lock_view
from include.trusted_folders import make_trusted_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from include.datasets.reference import DatasetReference
    from include.datasets.samples import Layout
    from include.datasets.sources import Source
    from include.datasets.storage import Listings, ObjectReader

log = logging.getLogger(__name__)

_NO_ROOTS = DatasetRoots()


@dataclass(frozen=True)
class LocalDataset:
    """Training data on this machine. data is Ultralytics' argument: a YAML, or a folder for classify."""

    data: Path
    fingerprint: str
    is_unchanged: Callable[[], bool]
    """Whether its files are still the same: data that were not fetched may be changed by their owner."""


@contextmanager
def materialize(
    reference: DatasetReference,
    cache: Path,
    s3: ObjectReader | None,
    roots: DatasetRoots = _NO_ROOTS,
    listings: Listings | None = None,
) -> Iterator[LocalDataset]:
    """Make exactly the content of `reference` available on this machine, fetching what the cache lacks.

    Until the context ends, no other training run writes to the same folder, see view_lock.py.

    roots are where a path may lead on this machine, whatever the machine that checked it allows. listings
    record what was checked under an S3 prefix; without a listing, nothing there may have changed.

    Raises DatasetChanged when the source no longer has that content, other DatasetErrors and StoreErrors when
    it is not available, and UntrustedFolder for a cache that another account could have prepared.
    """
    cache = make_trusted_folder(cache).resolve()
    origin = parse_source(reference.source, reference.task)
    place, _ = locate(origin, reference.source, cache, s3, roots, listings, reference.fingerprint)
    home = cache / reference.fingerprint
    is_unchanged = _always_unchanged
    with lock_view(home, _view_name(place, reference)) as view:
        if not place.fetched or not is_complete(view):
            layout = read_layout(place, reference.task, reference.split)
            if not place.fetched:
                is_unchanged = _require_unchanged(layout, reference)
            ensure_folder(home, view.name, lambda partial: fill_view(layout, partial, view), reference.source)
        log.info("Dataset %s is ready in %s.", reference.source, view)
        yield LocalDataset(data_argument(view, reference.task), reference.fingerprint, is_unchanged)


def locate(
    origin: Source,
    source: str,
    cache: Path,
    s3: ObjectReader | None,
    roots: DatasetRoots,
    listings: Listings | None = None,
    expected: str | None = None,
) -> tuple[Place, str | None]:
    """Find the data on this machine, fetching them if needed; return their location and fingerprint.

    The fingerprint of a local path is None, because its files have not been read yet. With `expected`, cached
    content is used without asking S3, and any other content raises DatasetChanged.
    """
    match origin:
        case LocalPath():
            return find_local(origin, source, roots), None
        case Digits():
            content, fingerprint = _draw_digits(cache), digits.FINGERPRINT
            require_expected(fingerprint, expected, source)
        case S3Zip() | S3Tree():
            content, fingerprint = _fetch(origin, source, cache, s3, listings, expected)
    yaml = origin.yaml if isinstance(origin, S3Tree) else None
    return Place(content / yaml if yaml else content, source, content), fingerprint


def _fetch(
    origin: S3Zip | S3Tree,
    source: str,
    cache: Path,
    s3: ObjectReader | None,
    listings: Listings | None,
    expected: str | None,
) -> tuple[Path, str]:
    if expected is not None and is_complete(content := cache / expected / "content"):
        log.info("Dataset %s is in the cache.", source)
        return content, expected
    if s3 is None:
        raise DatasetError(
            f"dataset={source!r} is in S3, but no S3 connection is configured; set connection training_s3"
        )
    if isinstance(origin, S3Zip):
        return fetch_zip(origin, cache, s3, expected)
    return fetch_tree(origin, cache, s3, listings, expected)


def _draw_digits(cache: Path) -> Path:
    def fill(target: Path) -> None:
        digits.write_digits(target)
        drawn = content_fingerprint(read_layout(Place(target, "digits", target), "detect"), "digits")
        if drawn != digits.FINGERPRINT:
            raise DatasetError(
                "The bundled digits do not match their fingerprint on this machine; install scikit-learn as "
                "pinned in requirements.txt"
            )

    return ensure_folder(cache / digits.FINGERPRINT, "content", fill, "digits")


def _view_name(place: Place, reference: DatasetReference) -> str:
    name = f"view-{reference.task}" + ("" if reference.split == "val" else f"-{reference.split}")
    # Fetched content is always in the folder of its fingerprint. Local files with the same content may be at
    # several paths, any of which may disappear.
    if place.fetched:
        return name
    return f"{name}-{hashlib.sha256(bytes(place.path)).hexdigest()[:16]}"


def _require_unchanged(layout: Layout, reference: DatasetReference) -> Callable[[], bool]:
    """Raise DatasetChanged unless the files are those that were checked.

    Returns a function that checks whether they still are.
    """
    before = stat_digest(layout)
    if before != reference.stat_digest:
        found = content_fingerprint(layout, reference.source)
        require_expected(found, reference.fingerprint, reference.source)

    def is_unchanged() -> bool:
        if stat_digest(layout) == before:
            return True
        try:
            return content_fingerprint(layout, reference.source) == reference.fingerprint
        except DatasetError:  # one of them is gone
            return False

    return is_unchanged


def _always_unchanged() -> bool:
    return True
