"""What a dataset consists of, as it lies on this machine's disk."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from include.datasets.boundary import LeadsOutside
from include.datasets.errors import DatasetError, Finding
from include.limits import FINDINGS, FOLDER_DEPTH
from include.refusals import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from include.datasets.boundary import Boundary

# IMG_FORMATS of ultralytics/data/utils.py: other files are not taken for images.
IMAGE_SUFFIXES = frozenset({
    "avif", "bmp", "dng", "heic", "heif", "jp2", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp",
})  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """One image of a split.

    image is the file itself, all links followed; label is that of its labels, or where they belong (None for
    classify); name is the image's path within the split.
    """

    image: Path
    label: Path | None
    name: str


@dataclass(frozen=True)
class Layout:
    """A dataset as it lies on this machine's disk. extras are keys of the data YAML for Ultralytics."""

    root: Path
    task: str
    names: dict[int, str]
    splits: Mapping[str, tuple[Sample, ...]]
    extras: Mapping[str, Any] = field(default_factory=dict)

    def shown(self, path: Path) -> str:
        """Write `path` for a person: relative to the dataset where it can be."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


@dataclass(frozen=True)
class Place:
    """Where a dataset lies on this machine; all of these paths are resolved.

    path is a data YAML or a folder. folder is what the dataset must not lead out of. For a user's own path,
    roots are the folders below one of which a data YAML's `path` may name another such folder, and barred is
    what nothing may lead into; what was fetched has no roots.
    """

    path: Path
    source: str
    folder: Path
    roots: tuple[Path, ...] = ()
    barred: Path | None = None

    @property
    def fetched(self) -> bool:
        """Whether this project brought the data here, and not a user."""
        return not self.roots

    def as_json(self) -> dict[str, Any]:
        """Return plain values, for another process."""
        return {
            "path": str(self.path),
            "source": self.source,
            "folder": str(self.folder),
            "roots": [str(root) for root in self.roots],
            "barred": self.barred and str(self.barred),
        }

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> Place:
        """Read what `as_json` returned."""
        barred = values["barred"]
        return cls(
            Path(values["path"]),
            values["source"],
            Path(values["folder"]),
            tuple(Path(root) for root in values["roots"]),
            Path(barred) if barred else None,
        )


def images_below(folder: Path, boundary: Boundary) -> Iterator[str]:
    """Name all images below `folder`, relative to it. Hidden files do not count, nor for Ultralytics.

    Raises DatasetError for a folder that leads out of the dataset.
    """
    boundary.require_walkable(folder)
    depth = str(folder).count(os.sep)
    for parent, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        if parent.count(os.sep) - depth > FOLDER_DEPTH:
            raise DatasetError(
                f"{shown(str(folder))} has more than {FOLDER_DEPTH} folders inside each other; move "
                "the images up"
            )
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            boundary.require_walkable(Path(parent, name))
        for name in sorted(files):
            if is_image(name) and not name.startswith("."):
                yield str(Path(parent, name).relative_to(folder))


def resolved_samples(
    named: Iterable[tuple[Path, Path | None, str]], boundary: Boundary
) -> tuple[Sample, ...]:
    """Follow all links of images and labels, given with the image's name. Raises DatasetError."""
    findings: dict[Finding, None] = {}

    def resolved(path: Path) -> Path:
        try:
            return boundary.resolve_file(path)
        except (FileNotFoundError, NotADirectoryError):
            return path  # the check says what is missing
        except LeadsOutside as problem:
            findings[Finding(boundary.shown(path), None, str(problem))] = None
            return path

    samples = []
    for image, label, name in named:
        samples.append(Sample(resolved(image), label and resolved(label), name))
        if len(findings) >= FINDINGS:
            break
    if findings:
        raise DatasetError.of_findings(boundary.source, list(findings))
    return tuple(samples)


def _raise(error: OSError) -> NoReturn:
    raise error


def is_image(name: str) -> bool:
    """Tell by its suffix whether Ultralytics takes a file for an image."""
    return name.rpartition(".")[2].lower() in IMAGE_SUFFIXES
