"""Converts a dataset to the format of Ultralytics, stores the result in S3, and returns its location."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from include.datasets.caching.cache import lock_alone
from include.datasets.confinement import run_confined
from include.datasets.conversion.coco import convert_coco
from include.datasets.conversion.files import DATA_YAML, ConvertedFiles
from include.datasets.conversion.images import fetch_images, require_allowed
from include.datasets.conversion.ndjson import convert_ndjson
from include.datasets.conversion.store import ConvertedDatasets, Inventory
from include.datasets.disk import translate_disk_errors
from include.datasets.layouts.boundary import Boundary
from include.datasets.layouts.layout import translate_reading_errors
from include.limits import FOLDER_DEPTH
from include.trusted_folders import make_trusted_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.datasets.caching.cache import DatasetCache
    from include.datasets.conversion.addresses import AllowedHosts
    from include.datasets.conversion.store import ConvertedDataset
    from include.datasets.layouts.samples import DatasetLocation
    from include.s3.bucket import Bucket
    from include.ultralytics_tasks import Task


log = logging.getLogger(__name__)

_VERSION = 3
"""Increase this when the conversion of COCO annotations changes, so that datasets are converted again."""

_NDJSON, _COCO = ".ndjson", ".json"


@dataclass(frozen=True)
class ForeignDataset:
    """A dataset in a format other than that of Ultralytics."""

    kind: str
    """The suffix of the files that describe it: .ndjson, or .json for COCO annotations."""
    folder: Path
    """The folder of its files; nothing outside this folder is read."""
    named: str | None = None
    """The file that the user named, relative to the folder; None if a folder was named."""


class Converter:
    """Converts datasets, fetching images only from `hosts`, and stores the results in one bucket."""

    def __init__(self, bucket: Bucket, hosts: AllowedHosts) -> None:
        self.datasets = ConvertedDatasets(bucket)
        self._hosts = hosts

    def convert(
        self, location: DatasetLocation, fingerprint: str | None, task: Task, cache: DatasetCache
    ) -> ConvertedDataset | None:
        """Convert the dataset at `location`; return None if Ultralytics can train on it as it is.

        `fingerprint` identifies the content; it is None for a local path. COCO annotations at a local path
        are converted each time. For all other datasets, including .ndjson exports at a local path, the result
        of an earlier conversion is reused from S3. After an error, the cache keeps the fetched images for
        another attempt on this machine with the same export. Raises DatasetError, ImagesUnavailable,
        StoreErrors, OSError and ConfinedProcessEnded.
        """
        foreign = find_foreign(location, task)
        if foreign is None:
            return None
        named = foreign.named or ""
        identity = json.dumps([_VERSION, foreign.kind, fingerprint or str(location.path), named, task])
        key = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()
        is_reusable = fingerprint is not None and foreign.kind != _NDJSON
        if is_reusable and (converted := self.datasets.find(key)) is not None:
            log.info("%s was converted before.", location.source)
            return converted
        with cache.use(key) as home, _work_in(home, location.source) as work:
            if foreign.kind == _NDJSON:
                return self._convert_ndjson(location, task, work)
            converted = self._convert_coco(foreign, location, task, work)
        if is_reusable and converted is not None:
            self.datasets.record(key, converted)
        return converted

    def _convert_ndjson(self, location: DatasetLocation, task: Task, work: Path) -> ConvertedDataset:
        source = location.source
        found = run_confined(convert_ndjson, str(location.path), source, task, str(work), source=source)
        if (converted := self.datasets.find(found["key"])) is not None:
            log.info("%s was converted before.", source)
            return converted
        require_allowed(found["hosts"], self._hosts, source)
        files = ConvertedFiles(work)
        files.keep_fetched(found["key"])
        fetch_images(files, self._hosts, source)
        converted = self._store(work, None if task == "classify" else DATA_YAML, found["notes"])
        self.datasets.record(found["key"], converted)
        return converted

    def _convert_coco(
        self, foreign: ForeignDataset, location: DatasetLocation, task: Task, work: Path
    ) -> ConvertedDataset | None:
        source, barred = location.source, str(location.barred) if location.barred else None
        arguments = str(foreign.folder), source, barred, foreign.named, task, str(work)
        notes = run_confined(convert_coco, *arguments, source=source)
        return None if notes is None else self._store(work, DATA_YAML, notes)

    def _store(self, work: Path, yaml: str | None, notes: dict[str, int]) -> ConvertedDataset:
        with closing(Inventory(work / "inventory.sqlite")) as inventory:
            inventory.add_all(ConvertedFiles(work).list_files())
            return self.datasets.store(inventory, yaml, notes)


@contextmanager
def _work_in(home: Path, source: str) -> Iterator[Path]:
    """Lock a conversion and yield the folder for its files.

    The folder is removed at the end. After an error it is kept, so that a retry need not fetch the same files
    again.
    """
    with translate_disk_errors(home, source):
        make_trusted_folder(home)
        with lock_alone(home / "lock", f"converting {source}"):
            work = make_trusted_folder(home / "conversion")
            ConvertedFiles(work).clear()
            yield work
            shutil.rmtree(work)


def find_foreign(location: DatasetLocation, task: Task) -> ForeignDataset | None:
    """Return the dataset if it may have to be converted; None if Ultralytics can read it as it is.

    Whether the JSON files in a folder are COCO annotations is only known once they are read. Raises
    DatasetError, and OSError if a retry may succeed.
    """
    suffix = location.path.suffix.lower()
    if suffix in {_NDJSON, _COCO} and not location.path.is_dir():
        return ForeignDataset(suffix, location.folder, str(location.path.relative_to(location.folder)))
    if task == "classify" or not location.path.is_dir():
        return None
    with translate_reading_errors(location.source):
        folder = _find_top(location.path, Boundary(location.folder, location.source, location.barred))
    return ForeignDataset(_COCO, folder) if folder is not None else None


def _find_top(folder: Path, boundary: Boundary, depth: int = 0) -> Path | None:
    """Return the folder of the dataset's files; None if it has a data YAML.

    If a folder contains nothing but one other folder, that folder is searched instead.
    """
    boundary.require_walkable(folder)
    visible = [path for path in folder.iterdir() if not path.name.startswith(".") and path.name != "__MACOSX"]
    if any(path.suffix.lower() in {".yaml", ".yml"} for path in visible):
        return None
    if len(visible) == 1 and visible[0].is_dir() and depth < FOLDER_DEPTH:
        return _find_top(visible[0], boundary, depth + 1)
    return folder
