"""Where training data may come from: what the parameter `dataset` can say."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from pathlib import Path

from include.datasets.errors import DatasetError

_REMEDY = (
    "Give 'digits', an absolute path that every worker sees, or s3://bucket/… (.zip, prefix or data YAML)"
)
_YAML_SUFFIXES = (".yaml", ".yml")
_ARCHIVE_SUFFIXES = (".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")


@dataclass(frozen=True)
class Digits:
    """The bundled digits."""


@dataclass(frozen=True)
class LocalPath:
    """A data YAML or a folder that every worker sees."""

    path: Path


@dataclass(frozen=True)
class S3Zip:
    """One zip file in S3."""

    bucket: str
    key: str


@dataclass(frozen=True)
class S3Tree:
    """All objects below a prefix (empty, or ending in '/'); yaml is the data YAML in it, if one was named."""

    bucket: str
    prefix: str
    yaml: str | None = None


Source = Digits | LocalPath | S3Zip | S3Tree


def parse_source(source: str, task: str) -> Source:
    """Understand the parameter `dataset`; raises DatasetError with what it may be."""
    if source == "digits":
        if task != "detect":
            raise DatasetError(
                f"dataset='digits' is for task='detect' only, not {task!r}: the bundled digits have boxes "
                "and nothing "
                "else. Give a data set of your own"
            )
        return Digits()
    if source.startswith("s3://"):
        return _parse_s3(source)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", source):
        raise DatasetError(
            f"dataset={source!r}: nothing is fetched from there. {_REMEDY}; to use this data set, download "
            "it and upload "
            "it to S3"
        )
    path = Path(source)
    if not path.is_absolute():
        raise DatasetError(
            f"dataset={source!r} is not an absolute path, and Ultralytics' downloadable data sets "
            "(coco8.yaml, …) are not "
            f"fetched here. {_REMEDY}"
        )
    return _existing(path)


def _existing(path: Path) -> LocalPath:
    try:
        if path.is_dir() or (path.is_file() and path.suffix.lower() in _YAML_SUFFIXES):
            return LocalPath(path)
        exists = path.exists()
    except OSError as error:
        raise DatasetError(
            f"dataset='{path}' cannot be looked at: {error}. Allow the worker to read it"
        ) from error
    if exists:
        raise DatasetError(
            f"dataset='{path}' is neither a folder nor a data YAML; unpack it, or upload a zip to S3"
        )
    raise DatasetError(
        f"dataset='{path}' does not exist on machine {socket.gethostname()!r}. A path must be there on every "
        "worker: "
        "mount it, or upload the data to S3"
    )


def _parse_s3(source: str) -> Source:
    bucket, _, key = source.removeprefix("s3://").partition("/")
    if not bucket:
        raise DatasetError(f"dataset={source!r} names no bucket. {_REMEDY}")
    lower = key.lower()
    if lower.endswith(".zip"):
        return S3Zip(bucket, key)
    if lower.endswith(_YAML_SUFFIXES):
        folder, slash, name = key.rpartition("/")
        return S3Tree(bucket, folder + slash, name)
    if lower.endswith(_ARCHIVE_SUFFIXES):
        raise DatasetError(f"dataset={source!r}: of archives only .zip is unpacked here; repack it as .zip")
    return S3Tree(bucket, f"{key.rstrip('/')}/" if key else "")
