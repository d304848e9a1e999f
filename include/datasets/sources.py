"""Sources of training data: values of the parameter `dataset`, except registered names (registered.py)."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from include.datasets.disk import is_passing
from include.datasets.errors import DatasetError, DatasetNotHere
from include.datasets.layouts.boundary import resolve_links
from include.datasets.layouts.samples import DatasetLocation
from include.s3.location import has_dot_segment

if TYPE_CHECKING:
    from include.datasets.layouts.boundary import DatasetRoots
    from include.ultralytics_tasks import Task


_REMEDY = (
    "Give 'digits', s3://bucket/… (.zip, prefix, data YAML, .ndjson or COCO .json), or an absolute path "
    "under DATASET_ROOTS"
)
_YAML_SUFFIXES = (".yaml", ".yml")
_ZIP_SUFFIX, _EXPORT_SUFFIX, _COCO_SUFFIX = ".zip", ".ndjson", ".json"
_COCO_FOLDER = "annotations"
_ARCHIVE_SUFFIXES = (".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")


@dataclass(frozen=True)
class Digits:
    """The bundled digits."""


@dataclass(frozen=True)
class LocalPath:
    """A folder, data YAML, .ndjson or COCO .json under DATASET_ROOTS; it must exist on every worker."""

    path: Path
    """The absolute path as given; links in it are not resolved yet."""


@dataclass(frozen=True)
class S3File:
    """One file in S3: a zip file, or an .ndjson file that names images on the web."""

    bucket: str
    """Name of the bucket."""
    key: str
    """Key of the object, which ends in .zip or .ndjson."""

    @property
    def is_zip(self) -> bool:
        """Whether the file is a zip file."""
        return self.key.lower().endswith(_ZIP_SUFFIX)


@dataclass(frozen=True)
class S3Tree:
    """A dataset under a prefix; caching/selection.py selects its objects."""

    bucket: str
    """Name of the bucket."""
    prefix: str
    """Empty, or ending in '/'."""
    yaml: str | None = None
    """The data YAML, relative to the prefix; None unless the source names one."""
    annotations: str | None = None
    """The COCO file, relative to the prefix; None unless the source names one."""

    @property
    def uri(self) -> str:
        """The address of the prefix, for messages."""
        return f"s3://{self.bucket}/{self.prefix}"


Source = Digits | LocalPath | S3File | S3Tree


def parse_source(source: str, task: Task, parameter: str = "dataset") -> Source:
    """Parse a parameter, named `parameter`. Raises DatasetError, which says what to give or do instead."""
    if source == "digits":
        if task != "detect":
            raise DatasetError(
                f"{parameter}='digits' is for task='detect' only, not {task!r}: the bundled digits have only "
                "boxes. Give your own dataset"
            )
        return Digits()
    if source.startswith("s3://"):
        return _parse_s3(source, parameter)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", source):
        raise DatasetError(
            f"{parameter}={source!r}: datasets are not fetched from such addresses. {_REMEDY}; to use this "
            "dataset, download it and upload it to S3"
        )
    path = Path(source)
    if not path.is_absolute():
        raise DatasetError(
            f"{parameter}={source!r} is not an absolute path, and Ultralytics' own datasets "
            f"(coco8.yaml, …) are not downloaded automatically. {_REMEDY}"
        )
    return LocalPath(path)


def find_local(origin: LocalPath, source: str, roots: DatasetRoots) -> DatasetLocation:
    """Locate the path that a user gave.

    Raises DatasetError, whose message does not reveal whether a path outside the roots exists. Also raises
    OSErrors after which a retry may succeed.
    """
    _require_roots(source, roots)
    roots = roots.resolve()
    named = resolve_links(origin.path)
    _require_allowed(named, source, roots)
    try:
        if named.is_dir():
            return DatasetLocation(named, source, named, roots.folders, roots.training_root)
        suffix = origin.path.suffix.lower() if named.is_file() else ""
        exists = named.exists()
    except OSError as error:
        if is_passing(error):
            raise
        raise DatasetNotHere(
            f"dataset={source!r} cannot be accessed: {error.strerror}. Allow the worker to read it"
        ) from error
    if suffix in {*_YAML_SUFFIXES, _EXPORT_SUFFIX, _COCO_SUFFIX}:
        own = resolve_links(origin.path.parent)  # if the path is a link, the folder of the link itself
        # The folder of COCO's annotations is beside the folders of the images.
        folder = own.parent if suffix == _COCO_SUFFIX and own.name == _COCO_FOLDER else own
        _require_allowed(folder, source, roots)
        return DatasetLocation(own / origin.path.name, source, folder, roots.folders, roots.training_root)
    if exists:
        raise DatasetError(
            f"dataset={source!r} must be a folder, a data YAML, .ndjson or COCO .json; unpack an archive, or "
            "upload it to S3 as a zip"
        )
    raise DatasetNotHere(
        f"dataset={source!r} does not exist on machine {socket.gethostname()!r}. A path must exist on "
        "every worker: mount it, or upload the data to S3"
    )


def _require_roots(source: str, roots: DatasetRoots) -> None:
    machine = socket.gethostname()
    if not roots.folders:
        raise DatasetNotHere(
            f"dataset={source!r}: local paths are switched off on machine {machine!r}, because "
            "DATASET_ROOTS is not set. Upload the data to S3 and give their s3:// address, or have the "
            "folder that contains them added to DATASET_ROOTS on every worker"
        )
    for folder in roots.folders:
        if not folder.is_absolute():
            raise DatasetNotHere(
                f"DATASET_ROOTS on machine {machine!r} contains '{folder}', which is not an absolute path; "
                "correct the setting"
            )


def _require_allowed(real: Path, source: str, roots: DatasetRoots) -> None:
    if roots.is_excluded(real):
        raise DatasetError(
            f"dataset={source!r} is in TRAINING_ROOT, which is for this project's own files; give the "
            "s3:// address that the data were fetched from, or a path under DATASET_ROOTS"
        )
    if not roots.is_allowed(real):
        raise DatasetNotHere(
            f"dataset={source!r}, with all links followed, is outside DATASET_ROOTS "
            f"({', '.join(map(str, roots.folders))}) on machine {socket.gethostname()!r}; move the data into "
            "one of these folders, or upload them to S3 and give their s3:// address"
        )


def _parse_s3(source: str, parameter: str) -> Source:
    bucket, _, key = source.removeprefix("s3://").partition("/")
    if not bucket:
        raise DatasetError(f"{parameter}={source!r} has no bucket name. {_REMEDY}")
    if has_dot_segment(key):
        raise DatasetError(
            f"{parameter}={source!r} contains '.' or '..' as a folder, which S3 does not resolve; give the "
            "address without it"
        )
    lower = key.lower()
    if lower.endswith((_ZIP_SUFFIX, _EXPORT_SUFFIX)):
        return S3File(bucket, key)
    if lower.endswith(_YAML_SUFFIXES):
        folder, slash, name = key.rpartition("/")
        return S3Tree(bucket, folder + slash, name)
    if lower.endswith(_COCO_SUFFIX):
        return _parse_coco(source, parameter, bucket, key)
    if lower.endswith(_ARCHIVE_SUFFIXES):
        raise DatasetError(f"{parameter}={source!r}: only .zip archives are supported; repack it as .zip")
    return S3Tree(bucket, f"{key.rstrip('/')}/" if key else "")


def _parse_coco(source: str, parameter: str, bucket: str, key: str) -> S3Tree:
    """Return the COCO file and the folder of its images: the file's folder or the parent of annotations/."""
    folder, _, name = key.rpartition("/")
    parent, _, last = folder.rpartition("/")
    if last == _COCO_FOLDER:
        folder, name = parent, f"{last}/{name}"
    if not folder:
        raise DatasetError(
            f"{parameter}={source!r} is at the root of its bucket, so the dataset would be the whole bucket; "
            "move the annotations and their images under a prefix, and give "
            f"s3://{bucket}/mine/{name} for example"
        )
    return S3Tree(bucket, f"{folder}/", annotations=name)
