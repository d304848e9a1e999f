"""Makes checked data available on the machine that trains."""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from include.datasets import digits
from include.datasets.caching.cache import DatasetCache, ensure_folder, is_complete
from include.datasets.caching.content import EXPORT_NAME, find_file, find_tree, is_intact
from include.datasets.caching.view import (
    fill_view,
    find_data_argument,
    has_all_links,
    lock_view,
    read_and_fill_view,
)
from include.datasets.confinement import run_confined
from include.datasets.errors import DatasetChanged, DatasetChanging, DatasetError
from include.datasets.examination import measure
from include.datasets.fingerprint import compute_content_fingerprint, compute_stat_digest, require_expected
from include.datasets.layouts.boundary import DatasetRoots
from include.datasets.layouts.layout import read_layout
from include.datasets.layouts.samples import DatasetLocation
from include.datasets.shares import MANY, PROCESSES
from include.datasets.sources import Digits, LocalPath, S3File, S3Tree, find_local, parse_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from include.datasets.caching.listing import S3Listings
    from include.datasets.layouts.samples import Layout
    from include.datasets.reference import DatasetReference
    from include.datasets.sources import Source
    from include.datasets.storage import ObjectReader

log = logging.getLogger(__name__)

_NO_ROOTS = DatasetRoots()


@dataclass(frozen=True)
class LocalDataset:
    """Training data on this machine."""

    data: Path
    """Ultralytics' argument `data`: a YAML, or a folder for classify."""
    is_unchanged: Callable[[], bool]
    """Returns whether the files are still the same: the owner of local data may change them.

    Raises OSErrors after which a retry may succeed.
    """


@contextmanager
def materialize(
    reference: DatasetReference,
    cache: Path,
    s3: ObjectReader | None,
    roots: DatasetRoots = _NO_ROOTS,
    listings: S3Listings | None = None,
    cache_limit: int | None = None,
) -> Iterator[LocalDataset]:
    """Make exactly the content of `reference` available on this machine; fetch files that the cache lacks.

    Until the context ends, this content is not evicted from the cache, and no other training run writes to
    the same folder. `roots` are the folders of this machine that datasets may be read from; the machine that
    checked the dataset may have allowed other folders. `listings` record the objects that were checked under
    an S3 prefix. If the cache lacks the content and there is no listing, any change under the prefix raises
    DatasetChanged. `cache_limit` is in bytes (see eviction.py).

    Raises DatasetChanged if the source no longer has that content, the errors of `inspect_dataset` if the
    source is not available, and UntrustedFolder for a cache that another account could have tampered with.
    """
    opened = DatasetCache.open(cache, cache_limit)
    origin = parse_source(reference.source, reference.task)
    source = reference.source
    found = locate(origin, source, opened, s3, roots, listings, reference.fingerprint)
    with (
        opened.use(reference.fingerprint) as home,
        _prefer_fetched(found, origin, reference, home) as location,
    ):
        layout = None if location.is_fetched else read_layout(location, reference.task, reference.split)
        with lock_view(home, _name_view(layout, reference)) as view:
            is_unchanged = _require_unchanged(layout, reference)
            fill = partial(_fill, location, layout, reference, view)
            ensure_folder(home, view.name, fill, source, has_all_links)
            log.info("Dataset %s is ready in %s.", source, view)
            yield LocalDataset(find_data_argument(view, reference.task), is_unchanged)


@contextmanager
def _prefer_fetched(
    found: AbstractContextManager[tuple[DatasetLocation, str | None]],
    origin: Source,
    reference: DatasetReference,
    home: Path,
) -> Iterator[DatasetLocation]:
    """Yield the location that `found` yields or, if S3 no longer has the checked content, the cached content.

    Content without an intact listing, such as that of an earlier release, has to be fetched again. If that
    fails, it is used nevertheless if it is as large as the dataset that was checked.
    """
    with ExitStack() as stack:
        try:
            location, _ = stack.enter_context(found)
        except DatasetError as error:
            if not isinstance(origin, S3File | S3Tree):
                raise
            location = _locate_content(origin, reference.source, home)
            if not _is_as_checked(location, reference):
                raise
            log.warning(
                "%s. Using this machine's copy: it has the checked number of images and bytes.", error
            )
        yield location


def _is_as_checked(location: DatasetLocation, reference: DatasetReference) -> bool:
    """Return whether the data are complete, and have as many images and bytes as the reference says."""
    if not is_complete(location.folder):
        return False
    try:
        found = run_confined(
            measure, location.as_json(), reference.task, reference.split, source=location.source
        )
    except DatasetError:  # for example, a folder of images is missing
        return False
    return bool(found == reference.model_dump(include=set(found)))


def _fill(
    location: DatasetLocation,
    layout: Layout | None,
    reference: DatasetReference,
    view: Path,
    unfinished: Path,
) -> None:
    """Write the view into the folder `unfinished`. `layout` is None if it has not been read yet."""
    is_large = reference.train_images + reference.val_images >= MANY
    if layout is not None and not is_large:
        fill_view(layout, unfinished, view)
        return
    processes = PROCESSES if is_large else 1
    arguments = location.as_json(), reference.task, reference.split, str(unfinished), str(view), processes
    run_confined(read_and_fill_view, *arguments, source=reference.source)


@contextmanager
def locate(
    origin: Source,
    source: str,
    cache: DatasetCache,
    s3: ObjectReader | None,
    roots: DatasetRoots,
    listings: S3Listings | None = None,
    expected: str | None = None,
) -> Iterator[tuple[DatasetLocation, str | None]]:
    """Find the data on this machine, or fetch or draw them; yield their location and fingerprint.

    The data are not evicted from the cache until the context ends. For a local path, the fingerprint is None,
    because the files have not been read yet; the caller compares it with `expected` later. For other sources,
    a fingerprint other than `expected` raises DatasetChanged. If the cache has the content `expected`, no
    request is sent to S3. Without `expected`, data that change meanwhile raise DatasetChanging.
    """
    match origin:
        case LocalPath():
            yield find_local(origin, source, roots), None
        case Digits():
            require_expected(digits.FINGERPRINT, expected, source)
            with cache.use(digits.FINGERPRINT) as home:
                content = _draw_digits(home)
                yield DatasetLocation(content, source, content), digits.FINGERPRINT
        case S3File() | S3Tree():
            with _fetch(origin, source, cache, s3, listings, expected) as home:
                yield _locate_content(origin, source, home), home.name


def _locate_content(origin: S3File | S3Tree, source: str, home: Path) -> DatasetLocation:
    """Return the location of fetched data."""
    content = home / "content"
    return DatasetLocation(content / (_find_file_name(origin) or ""), source, content)


def _find_file_name(origin: S3File | S3Tree) -> str | None:
    """Return the name of the file that describes the dataset; None if the source is a folder or a zip."""
    if isinstance(origin, S3Tree):
        return origin.yaml or origin.annotations
    return None if origin.is_zip else EXPORT_NAME


@contextmanager
def _fetch(
    origin: S3File | S3Tree,
    source: str,
    cache: DatasetCache,
    s3: ObjectReader | None,
    listings: S3Listings | None,
    expected: str | None,
) -> Iterator[Path]:
    if expected is not None:
        with cache.use(expected) as home:
            if is_intact(home, origin):
                log.info("Dataset %s is in the cache.", source)
                yield home
                return
    if s3 is None:
        raise DatasetError(
            f"dataset={source!r} is in S3, but no S3 connection is configured; set connection training_s3"
        )
    with _allow_changes(expected):
        if isinstance(origin, S3Tree):
            remote = find_tree(origin, cache, s3, listings, expected)
        else:
            remote = find_file(origin, cache, s3, expected)
    with cache.use(remote.fingerprint) as home:
        with _allow_changes(expected):
            ensure_folder(home, "content", remote.fill, remote.uri, remote.is_intact, remote.repair)
        yield home


@contextmanager
def _allow_changes(expected: str | None) -> Iterator[None]:
    """Turn DatasetChanged into DatasetChanging, unless exactly the content `expected` is needed."""
    try:
        yield
    except DatasetChanged as error:
        if expected is not None:
            raise
        raise DatasetChanging(
            f"{error.change or error}, probably by an upload that is still running. The next attempt lists "
            "the data again; to check them sooner, end the upload first"
        ) from error


def _draw_digits(home: Path) -> Path:
    def are_whole(content: Path) -> bool:
        try:
            layout = read_layout(DatasetLocation(content, "digits", content), "detect")
            return compute_content_fingerprint(layout, "digits") == digits.FINGERPRINT
        except DatasetError:
            return False

    def fill(target: Path) -> None:
        digits.write_digits(target)
        if not are_whole(target):
            raise DatasetError(
                "The bundled digits do not match their fingerprint on this machine; install scikit-learn as "
                "pinned in requirements.txt"
            )

    return ensure_folder(home, "content", fill, "digits", are_whole)


def _name_view(layout: Layout | None, reference: DatasetReference) -> str:
    """Return the name of the view; `layout` is the layout of local data, or None for fetched data.

    Fetched content is always in the folder named after its fingerprint. Local files with the same content
    may be at several places, any of which may disappear. So the name of their view has a hash of its paths.
    """
    name = f"view-{reference.task}" + ("" if reference.split == "val" else f"-{reference.split}")
    if layout is None:
        return name
    targets = hashlib.sha256()
    for sample in chain.from_iterable(layout.splits.values()):
        targets.update(os.fsencode(f"{sample.image}\0{sample.label or ''}\0"))
    return f"{name}-{targets.hexdigest()[:16]}"


def _require_unchanged(layout: Layout | None, reference: DatasetReference) -> Callable[[], bool]:
    """Raise DatasetChanged unless the files are those that were checked.

    Returns a function that checks later whether the files are still the same. `layout` is the layout of local
    data, or None for fetched data, which never change.
    """
    if layout is None:
        return lambda: True
    before = compute_stat_digest(layout)
    if before != reference.stat_digest:
        found = compute_content_fingerprint(layout, reference.source)
        require_expected(found, reference.fingerprint, reference.source)

    def is_unchanged() -> bool:
        if compute_stat_digest(layout) == before:
            return True
        try:
            return compute_content_fingerprint(layout, reference.source) == reference.fingerprint
        except DatasetError:  # a file is gone or cannot be read
            return False

    return is_unchanged
