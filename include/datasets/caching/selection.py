"""Lists the objects under a prefix that belong to a dataset.

All of them do, except hidden files and caches and, for COCO, files that are neither images nor JSON. But a
data YAML may be next to other datasets, or at the root of a bucket that also has checkpoints. So for a data
YAML, only the folders and files that it names are listed, with the folders of their labels; other objects do
not affect the dataset's fingerprint. To find out what the data YAML names, a confined process parses it.
"""

from __future__ import annotations

import gc
import itertools
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.datasets.caching.concurrent_listing import list_objects
from include.datasets.caching.listing import Listing
from include.datasets.confinement import run_confined
from include.datasets.errors import DatasetError
from include.datasets.layouts.description import USUAL_NAMES
from include.datasets.layouts.named_folders import list_folders, name_folders
from include.datasets.layouts.samples import is_image
from include.datasets.names import is_ignored, split_safely
from include.limits import LIST_BYTES, PREFIX_OBJECTS, YAML_BYTES, in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from include.datasets.confinement import Json
    from include.datasets.sources import S3Tree
    from include.datasets.storage import ObjectReader, StoredObject

_CLASSIFY_FOLDERS = ("test/", "train/", "val/", "valid/", "validation/")
_LEVEL = 10_000
"""How many objects and folders at the root of a bucket are searched for a data YAML."""


def list_tree(origin: S3Tree, reader: ObjectReader) -> Listing:
    """List the objects of the dataset, named relative to the prefix."""
    with _freeze_older_objects():
        found = itertools.islice(_iterate_tree(origin, reader), PREFIX_OBJECTS + 1)
        listing = Listing.write(origin, found)
    if listing.count > PREFIX_OBJECTS:
        raise DatasetError(
            f"{origin.uri} exceeds the limit of {PREFIX_OBJECTS:,} objects; give a prefix with fewer"
        )
    if not listing.count:
        raise DatasetError(
            f"There are no objects at {origin.uri}; check the bucket and the prefix, or upload the data there"
        )
    return listing


@contextmanager
def _freeze_older_objects() -> Iterator[None]:
    """Exclude the existing Python objects from garbage collection, unless Airflow has already done so.

    The imported modules alone have so many objects that collection would take a third of a listing's time.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _iterate_tree(origin: S3Tree, reader: ObjectReader) -> Iterator[tuple[str, StoredObject]]:
    for stored in _select_objects(origin, reader):
        name = stored.key.removeprefix(origin.prefix)
        if not name or name.endswith("/"):
            continue  # the placeholder that S3 consoles create for a folder
        try:
            parts = split_safely(name)
            if "/".join(parts) != name:
                raise ValueError("it contains the component '.'")  # noqa: TRY301 - the except clause completes it
        except ValueError as error:
            raise DatasetError(
                f"{origin.uri} contains {name!r}, which is not an allowed name: {error}. Rename the object"
            ) from error
        is_used = origin.annotations is None or is_image(name) or name.lower().endswith(".json")
        if is_used and not is_ignored(parts):
            yield name, stored


def _select_objects(origin: S3Tree, reader: ObjectReader) -> Iterator[StoredObject]:
    """Yield the dataset's objects in the order of their keys; there may be none. Raises DatasetError."""
    yaml, folders = origin.yaml, [origin.prefix]
    if yaml is None and not origin.prefix:
        yaml, folders = _look_at_root(origin, reader)
    if yaml is not None:
        yield from _select_named(origin, yaml, reader)
        return
    for folder in folders:
        yield from list_objects(reader, origin.bucket, folder)


def _look_at_root(origin: S3Tree, reader: ObjectReader) -> tuple[str | None, list[str]]:
    """Return the data YAML at a bucket's root or, if there is none, the prefixes of the dataset's objects."""
    pages = reader.list_level(origin.bucket, "")
    found = list(itertools.islice(itertools.chain.from_iterable(pages), _LEVEL))
    visible = [item if isinstance(item, str) else item.key for item in found]
    visible = [name for name in visible if not name.startswith(".")]
    usual = [name for name in USUAL_NAMES if name in visible]
    yamls = [name for name in visible if name.lower().endswith((".yaml", ".yml"))]
    if usual or len(yamls) == 1:
        return (usual or yamls)[0], []
    if "train/" in visible:
        return None, [name for name in _CLASSIFY_FOLDERS if name in visible]
    if len(visible) == 1 or not found:
        return None, visible
    what = "several YAML files" if yamls else "no data YAML and no train/"
    raise DatasetError(
        f"{origin.uri} is a whole bucket, with {what} at its root; give the prefix of the dataset, "
        f"{origin.uri}…/, or its data YAML"
    )


def _select_named(origin: S3Tree, yaml: str, reader: ObjectReader) -> Iterator[StoredObject]:
    description = reader.stat(origin.bucket, origin.prefix + yaml)
    named = _parse_object(reader, description, YAML_BYTES, name_folders, yaml)
    lists = [stored for name in named["lists"] for stored in _stat_if_there(origin, name, reader)]
    folders = set(named["folders"])
    for stored in lists:
        name = stored.key.removeprefix(origin.prefix)
        arguments = name, named["roots"], named["masks"]
        folders |= set(_parse_object(reader, stored, LIST_BYTES, list_folders, *arguments))
    if "" in folders:
        if not origin.prefix:
            raise DatasetError(
                f"{origin.uri}{yaml} names the whole bucket as a folder of images, but a bucket may contain "
                "other files; move the images into a folder, such as images/, and name that folder"
            )
        yield from list_objects(reader, origin.bucket, origin.prefix)
        return
    units: dict[str, StoredObject | None] = {f"{origin.prefix}{folder}/": None for folder in folders}
    units |= {stored.key: stored for stored in (description, *lists)}
    last = None
    for key, single in sorted(units.items()):
        if last is not None and key.startswith(last):
            continue  # already listed with the folder that contains it
        if single is None:
            yield from list_objects(reader, origin.bucket, key)
            last = key
        else:
            yield single


def _stat_if_there(origin: S3Tree, name: str, reader: ObjectReader) -> Iterator[StoredObject]:
    """Yield the object if it exists. The check reports a missing object."""
    key = origin.prefix + name
    for item in itertools.chain.from_iterable(reader.list_level(origin.bucket, key)):
        if not isinstance(item, str) and item.key == key:
            yield item
        return  # the object, if it exists, is the first item


def _parse_object(
    reader: ObjectReader, stored: StoredObject, most: int, parse: Callable[..., object], *arguments: Json
) -> Any:
    """Download a small object and return the result of `parse`, which runs in a confined process."""
    if stored.size > most:
        raise DatasetError(
            f"{stored.uri} is {in_words(stored.size)}, and the limit is {in_words(most)}; check "
            "the program that wrote it"
        )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "object"
        with file.open("wb") as target:
            if stored.size:
                target.writelines(reader.read(stored, 0, stored.size))
        return run_confined(parse, str(file), stored.uri, *arguments, source=stored.uri)
