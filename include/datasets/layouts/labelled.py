"""The dataset layout of all tasks except classify: images, each with a file of labels."""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from include.datasets.checking.findings import Finding
from include.datasets.checking.label_files import IMAGE_SUFFIXES, MASKS
from include.datasets.errors import DatasetError
from include.datasets.layouts.boundary import Boundary, DatasetRoots, LeadsOutside, resolve_links
from include.datasets.layouts.description import find_description, read_description
from include.datasets.layouts.samples import (
    Layout,
    find_images_below,
    is_image,
    resolve_samples,
    warn_of_skipped,
)
from include.datasets.layouts.unused import find_unused_labels
from include.datasets.text import read_lines
from include.limits import FINDINGS_PER_FILE, IMAGES, LIST_BYTES, PATH_BYTES, REPEATS
from include.refusals import show_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from include.datasets.layouts.description import Description
    from include.datasets.layouts.samples import DatasetLocation, Sample
    from include.datasets.rules import Split
    from include.ultralytics_tasks import Task


def read_labelled(location: DatasetLocation, task: Task, split: Split) -> Layout:
    """Find all training and validation images, and the paths of their labels.

    `split` is the validation split. Raises DatasetError and OSErrors.
    """
    boundary = Boundary(location.folder, location.source, location.barred)
    file = find_description(location.path, boundary) if location.path.is_dir() else location.path
    boundary.resolve(file, f"{file.name} is a link that")
    description = read_description(file, task, location.source, split)
    root, boundary = _find_root(description, location, boundary)
    if (
        task == "semantic"
        and not description.labels.are_images
        and boundary.resolve(root / MASKS, f"{MASKS}/ is a link that").is_dir()
    ):
        # As in check_det_dataset, a folder of this name has the masks if the data YAML does not name another.
        description = read_description(file, task, location.source, split, default_masks=MASKS)
    reader = _Reader(description, root, boundary, location.is_fetched)
    splits = {name: reader.read(name) for name in description.splits}
    labels = description.labels
    warnings = (*warn_of_skipped(boundary), *find_unused_labels(reader.folders, labels, boundary))
    return Layout(root, task, description.names, splits, description.extras, split, warnings, labels)


def _find_root(
    description: Description, location: DatasetLocation, boundary: Boundary
) -> tuple[Path, Boundary]:
    """Return the folder to which train and val are relative: `path` if allowed, else the YAML's folder.

    A data YAML often still has the `path` of the machine on which it was created. Ultralytics also ignores
    such a path in an archive. In a local dataset, `path` may name another folder below an allowed root, which
    then becomes the dataset's folder.
    """
    own = resolve_links(description.file.parent)
    if description.path is None:
        return own, boundary
    given = resolve_links(own / description.path)
    if boundary.contains(given):
        return (given if given.is_dir() else own), boundary
    roots = DatasetRoots(location.roots, location.barred)
    if roots.is_allowed(given) and given.is_dir():
        return given, Boundary(given, location.source, location.barred)
    return own, boundary


_Found = tuple[Path, str, str]
"""An image: a folder, shared by many images; its path below that folder; its name within the split."""


@dataclass(frozen=True)
class _Reader:
    """Finds the images of a described dataset."""

    description: Description
    """The content of the data YAML."""
    root: Path
    """The folder to which the paths in the description are relative."""
    boundary: Boundary
    """The folder that no path of the dataset may leave."""
    is_fetched: bool
    """Whether this project fetched the data, rather than a user providing them."""
    folders: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """For each folder of labels, the folders that contain their images; filled by `read`."""

    def read(self, split: Split) -> tuple[Sample, ...]:
        """Find all images of a split and the paths of their labels."""
        source, written = self.boundary.source, self.description.splits[split]
        images: list[_Found] = []
        for number, path in enumerate(written):
            folder = f"{number}/" if len(written) > 1 else ""
            for base, name in self._find_images(self._resolve(split, path)):
                images.append((base, name, folder + name))
                if len(images) > IMAGES:
                    raise DatasetError(
                        f"Dataset {source!r}: {split} exceeds the limit of {IMAGES:,} images; "
                        "divide the dataset"
                    )
        if not images:
            raise DatasetError(
                f"Dataset {source!r}: {split} is empty: no images in "
                f"{show_value(written[0] if len(written) == 1 else written)} (images end "
                f"in {', '.join(sorted(IMAGE_SUFFIXES))})"
            )
        return resolve_samples(self._add_labels(images), self.boundary)

    def _add_labels(self, images: list[_Found]) -> Iterator[tuple[str, str, str]]:
        """Add to each image the path of its labels.

        A list may name an image several times, so that the image is used more often. Each repetition becomes
        a sample with a name of its own.
        """
        images.sort(key=itemgetter(2))
        previous, repeats = "", 0
        for base, path, name in images:
            repeats = repeats + 1 if name == previous else 0
            previous, repeat = name, f"repeat{repeats}/" if repeats else ""
            if repeats >= REPEATS:
                raise DatasetError(
                    f"Dataset {self.boundary.source!r} lists an image more than {REPEATS} times; list "
                    "each image fewer times, or train for more epochs"
                )
            image = f"{base}{os.sep}{path}"
            own = self.is_fetched and image.startswith(f"{self.boundary.folder}{os.sep}")
            possible = self.description.labels.list_candidates(image, self.boundary.folder if own else None)
            if self.description.labels.are_images:
                self._require_apart(image, name, possible[0])
            self.folders[possible[0].rpartition(os.sep)[0]].add(image.rpartition(os.sep)[0])
            yield image, possible[0] if len(possible) == 1 else self._find_first(possible), repeat + name

    def _require_apart(self, image: str, name: str, label: str) -> None:
        """Raise DatasetError if the label, which is an image itself, would count as a training image."""
        folder, kept = self.description.labels.folder, self.boundary.make_relative(Path(image))
        start = f"Dataset {self.boundary.source!r}: {show_value(kept)}"
        if label.rpartition(os.sep)[0] == image.rpartition(os.sep)[0]:
            raise DatasetError(
                f"{start} is not below a folder named images, so its labels would be next to it and "
                f"count as images; move the images into images/, and their labels into {folder}/"
            )
        if "images" in Path(name).parts[:-1]:
            raise DatasetError(
                f"{start} is below a folder named images within its split, so its labels would be inside "
                "the split, too, and count as images; make images/ the split, and put the labels into "
                f"{folder}/ next to it"
            )

    def _find_first(self, possible: Sequence[str]) -> str:
        """Return the first of the possible files that exists; if none exists, return the first."""
        for path in possible:
            try:
                self.boundary.resolve_file(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except LeadsOutside:  # resolve_samples reports this
                pass
            return path
        return possible[0]

    def _resolve(self, split: Split, path: str) -> Path:
        """Resolve a path of the data YAML, without checking whether a path outside the dataset exists."""
        key = f"{self.description.file.name}: {split}: {path!r}"
        candidates = [self.root / path]
        if path.startswith("../"):
            # As in Ultralytics' check_det_dataset: some programs export paths with one ../ too many.
            candidates.append(self.root / path[3:])
        inside = [
            real for candidate in candidates if self.boundary.contains(real := resolve_links(candidate))
        ]
        for real in inside:
            with suppress(FileNotFoundError, NotADirectoryError):
                real.stat()
                return real
        problem = "leads outside the dataset; use a path inside it"
        if len(inside) == len(candidates):
            problem = f"does not exist in {self.root}; correct the path"
        raise DatasetError(f"Dataset {self.boundary.source!r}: {key} {problem}{self._note_ignored_path()}")

    def _note_ignored_path(self) -> str:
        """Return a note for the error message if the key `path` was ignored; otherwise, an empty text."""
        path = self.description.path
        if path is None or resolve_links(self.description.file.parent / path) == self.root:
            return ""
        return f" (path: {path!r} is not a folder of the dataset on this machine, so it is ignored)"

    def _find_images(self, found: Path) -> Iterable[tuple[Path, str]]:
        """Return the images at a resolved path, each as a folder and the image's path below that folder."""
        if found.is_dir():
            return ((found, path) for path in find_images_below(found, self.boundary))
        if not is_image(found.name):
            return self._read_list(found)
        return [(found.parent, found.name)]

    def _read_list(self, file: Path) -> Iterable[tuple[Path, str]]:
        """Read a list of images.

        An error quotes only lines that name an image, because the file may be something else entirely.
        """
        images: list[str] = []
        findings: list[Finding] = []
        for number, line in _read_list_lines(file, self.boundary.source):
            if not (text := line.strip()):
                continue
            if len(findings) >= FINDINGS_PER_FILE:
                findings.append(Finding(file.name, number, "the rest of the list was not read", "stopped"))
                break
            # For Ultralytics, `./` is relative to the list, and other paths are relative to its working
            # directory; here, they are relative to the root.
            image = os.path.normpath((file.parent if text.startswith("./") else self.root) / text)
            if problem := self._find_problem(image, text):
                findings.append(Finding(file.name, number, problem, "list"))
            else:
                images.append(image)
        if findings:
            raise DatasetError.from_findings(self.boundary.source, findings)
        folders = {os.path.dirname(image) for image in images}  # noqa: PTH120 - faster for a million files
        common = Path(os.path.commonpath(folders)) if folders else Path()
        return ((common, str(Path(image).relative_to(common))) for image in images)

    def _find_problem(self, image: str, text: str) -> str | None:
        if not is_image(text):
            return "the line is not the name of an image"
        try:
            self.boundary.resolve_file(image)
        except ValueError as problem:  # LeadsOutside, or a name that no file can have
            return f"{show_value(text)} is refused: {problem}"
        except (FileNotFoundError, NotADirectoryError):
            return f"{show_value(text)} does not exist"
        return None


def _read_list_lines(file: Path, source: str) -> Iterator[tuple[int, str]]:
    try:
        yield from read_lines(file, most_bytes=LIST_BYTES, most_lines=IMAGES, longest=PATH_BYTES)
    except ValueError as error:
        raise DatasetError(f"Dataset {source!r}: {file.name} is not a list of images: {error}") from error
