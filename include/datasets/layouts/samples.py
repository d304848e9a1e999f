"""The files of a dataset on this machine's disk."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import TypeAdapter

from include.datasets.checking.findings import Finding
from include.datasets.checking.label_files import IMAGE_SUFFIXES, TEXT
from include.datasets.errors import DatasetError
from include.datasets.layouts.boundary import LeadsOutside, resolve_links
from include.limits import FINDINGS, FOLDER_DEPTH
from include.refusals import show_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from include.datasets.checking.label_files import LabelFiles
    from include.datasets.layouts.boundary import Boundary
    from include.datasets.rules import Split
    from include.ultralytics_tasks import Task


_UNREAD_SUFFIXES = frozenset({
    "exr", "gif", "hdr", "jfif", "jpe", "pbm", "pgm", "pnm", "ppm", "psd", "svg", "tga",
})  # fmt: skip
"""Suffixes of images that Ultralytics silently ignores; the check warns about them."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a split.

    There may be millions of samples, so each takes little memory. Samples share the strings of their folders,
    and build a full path only when it is needed. Paths are strings, because creating a `Path` takes longer
    than linking a file.
    """

    image_folder: str
    """The folder of the image, with all links resolved."""
    image_file: str
    """The image's file name in that folder."""
    label_folder: str | None
    """The folder of the label file, with all links resolved; None for classify, which has no label files."""
    label_file: str
    """The label file's name in that folder; the file need not exist. Empty for classify."""
    name: str
    """The image's path within the split."""
    suffix: str
    """The suffix that the label file's name had before links were resolved. Empty for classify."""

    @classmethod
    def of(cls, image: str, label: str | None, name: str, suffix: str) -> Sample:
        """Create a sample from the resolved paths of its files."""
        folder, _, file = image.rpartition(os.sep)
        labels, _, label_file = label.rpartition(os.sep) if label else (None, "", "")
        shared = labels and sys.intern(labels)
        return cls(sys.intern(folder), file, shared, label_file, name, sys.intern(suffix))

    @property
    def image(self) -> str:
        """The path of the file, with all links resolved."""
        return f"{self.image_folder}{os.sep}{self.image_file}"

    @property
    def label(self) -> str | None:
        """The label file's path, with all links resolved; None for classify. The file need not exist."""
        return None if self.label_folder is None else f"{self.label_folder}{os.sep}{self.label_file}"


@dataclass(frozen=True)
class Layout:
    """A dataset on this machine's disk."""

    root: Path
    """The folder to which the paths of the splits are relative."""
    task: Task
    """The task for which the labels were found."""
    names: dict[int, str]
    """Class names by class id."""
    splits: Mapping[Split, tuple[Sample, ...]]
    """The images of `train` and of the split `validation`; a single entry if both are the same split."""
    extras: Mapping[str, Any] = field(default_factory=dict)
    """The other keys that Ultralytics reads from a data YAML, such as `channels`."""
    validation: Split = "val"
    """The validation split."""
    warnings: tuple[Finding, ...] = ()
    """Warnings from listing the files."""
    labels: LabelFiles = TEXT
    """Where the labels of an image are."""

    def make_relative(self, path: str) -> str:
        """Return `path` for messages, relative to the dataset if it is inside."""
        return path.removeprefix(f"{self.root}{os.sep}")


@dataclass(frozen=True)
class DatasetLocation:
    """Where a dataset is on this machine. All paths are resolved, but `path` may be a link to a file."""

    path: Path
    """A folder, a data YAML, or a file that must be converted."""
    source: str
    """The dataset as the user named it, for messages."""
    folder: Path
    """The dataset's folder; paths in the dataset must not lead outside it."""
    roots: tuple[Path, ...] = ()
    """For local data, the allowed roots: the data YAML's `path` may name a folder below one of them, which
    then becomes the dataset's folder. Empty for fetched data."""
    barred: Path | None = None
    """For local data, a folder into which no path of the dataset may lead."""

    @property
    def is_fetched(self) -> bool:
        """Whether this project fetched or drew the data, rather than a user providing them."""
        return not self.roots

    def as_json(self) -> dict[str, Any]:
        """Return plain values, for another process."""
        values: dict[str, Any] = TypeAdapter(DatasetLocation).dump_python(self, mode="json")
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DatasetLocation:
        """Recreate a location from the result of `as_json`."""
        return TypeAdapter(cls).validate_python(values)


def find_images_below(folder: Path, boundary: Boundary) -> Iterator[str]:
    """Yield the paths of all images below `folder`, relative to it.

    Hidden files and folders are skipped, as in Ultralytics. Links that form a loop are not followed, but
    recorded in the boundary. Raises OSErrors, and DatasetError for a folder that is outside the dataset or
    nested too deeply.
    """
    boundary.require_walkable(folder)
    start = len(f"{folder}{os.sep}")
    depth = str(folder).count(os.sep)
    walk = _Walk(boundary)
    for parent, folders, files in os.walk(folder, onerror=raise_error, followlinks=True):
        if parent.count(os.sep) - depth > FOLDER_DEPTH:
            raise DatasetError(
                f"Dataset {boundary.source!r} has more than {FOLDER_DEPTH} nested folders in "
                f"{show_value(boundary.make_relative(folder))}; move the images up"
            )
        visible = sorted(name for name in folders if not name.startswith("."))
        folders[:] = [name for name in visible if walk.may_enter(Path(parent, name))]
        for name in sorted(files):
            if name.startswith("."):
                continue
            if is_image(name):
                yield f"{parent}{os.sep}{name}"[start:]
            elif (suffix := name.rpartition(".")[2].lower()) in _UNREAD_SUFFIXES:
                boundary.unread_images[boundary.make_relative(folder), suffix] += 1


class _Walk:
    """Decides which folders to enter, so that links cannot make a walk endless."""

    def __init__(self, boundary: Boundary) -> None:
        self._boundary = boundary
        self._entered: dict[Path, Path] = {}
        """For each link that was followed, the real path of the folder that contains it."""

    def may_enter(self, folder: Path) -> bool:
        """Return False for a link to a folder that contains the link, and record it; else return True.

        Raises DatasetError if the folder is outside the dataset.
        """
        if not folder.is_symlink():
            self._boundary.require_walkable(folder)
            return True
        real = self._boundary.resolve(folder, show_value(self._boundary.make_relative(folder)))
        parent = resolve_links(folder.parent)
        outer = [self._entered[link] for link in folder.parents if link in self._entered]
        if any(containing.is_relative_to(real) for containing in (parent, *outer)):
            self._boundary.circular_links.append(self._boundary.make_relative(folder))
            return False
        self._entered[folder] = parent
        return True


def resolve_samples(named: Iterable[tuple[str, str | None, str]], boundary: Boundary) -> tuple[Sample, ...]:
    """Follow the links in the paths of samples, given as (image, label, name). Raises DatasetError."""
    findings: dict[Finding, None] = {}

    def resolve_one(path: str) -> str:
        try:
            return boundary.resolve_file(path)
        except (FileNotFoundError, NotADirectoryError):
            return path  # the check reports missing files
        except LeadsOutside as problem:
            findings[Finding(boundary.make_relative(Path(path)), None, str(problem), "links")] = None
            return path

    samples = []
    for image, label, name in named:
        suffix = os.path.splitext(label)[1] if label else ""  # noqa: PTH122 - faster for a million files
        samples.append(Sample.of(resolve_one(image), label and resolve_one(label), name, suffix))
        if len(findings) >= FINDINGS:
            break
    if findings:
        raise DatasetError.from_findings(boundary.source, list(findings))
    return tuple(samples)


def warn_of_skipped(boundary: Boundary) -> tuple[Finding, ...]:
    """Return a warning for each link that was not followed, and for each format of skipped images."""
    message = "the link leads back to a folder that contains it"
    links = dict.fromkeys(boundary.circular_links)
    return (
        *(Finding(link, None, message, "circular-links") for link in links),
        *(
            Finding(f"{folder}/", None, f"files that end in .{suffix}: {number:,}", "unread-images")
            for (folder, suffix), number in sorted(boundary.unread_images.items())
        ),
    )


def raise_error(error: OSError) -> NoReturn:
    """Raise the error: `os.walk` skips the folders that it cannot list, unless its onerror raises."""
    raise error


def is_image(name: str) -> bool:
    """Return whether Ultralytics treats the file as an image, judging by its suffix."""
    return name.rpartition(".")[2].lower() in IMAGE_SUFFIXES
