"""The layout for detect, segment, pose and obb: images, and a label file for each."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from include.datasets.description import SPLITS, find_description, read_description
from include.datasets.errors import DatasetError, Finding
from include.datasets.samples import IMAGE_SUFFIXES, Layout, Sample, images_below, is_image
from include.datasets.text import read_lines
from include.limits import FINDINGS_PER_FILE, IMAGES, LIST_BYTES, PATH_BYTES
from include.refusals import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from include.datasets.description import Description
    from include.datasets.samples import Place


def read_labelled(place: Place, task: str) -> Layout:
    """Find all images of both splits and where their labels belong; raises DatasetError."""
    file = place.path if place.path.is_file() else find_description(place.path, place.source)
    description = read_description(file, task, place.source)
    root = _root(description, place)
    splits = {split: tuple(_split(description, split, root, place)) for split in SPLITS}
    return Layout(root, task, description.names, splits, description.extras)


def _root(description: Description, place: Place) -> Path:
    """The folder that train and val are relative to: `path` where it exists, else the YAML's own.

    Data YAMLs travel with the `path` of the machine they were made on; Ultralytics, too, ignores it for an
    archive.
    """
    own = description.file.parent.resolve()
    if description.path is None:
        return own
    given = (own / description.path).resolve()
    if not given.is_dir() or (place.confined and not given.is_relative_to(place.confined)):
        return own
    return given


def _split(description: Description, split: str, root: Path, place: Place) -> Iterator[Sample]:
    written = description.splits[split]
    images: list[tuple[Path, str]] = []
    for number, path in enumerate(written):
        folder = f"{number}/" if len(written) > 1 else ""
        found = _resolve_split(path, root, place, f"{description.file.name}: {split}")
        for image, name in _images(found, root, place):
            images.append((image, folder + name))
            if len(images) > IMAGES:
                raise DatasetError(
                    f"Dataset {place.source!r}: {split} has more than {IMAGES:,} images, which is the limit; "
                    "split the dataset"
                )
    if not images:
        raise DatasetError(
            f"Dataset {place.source!r}: {split} is empty: there is no image in "
            f"{shown(written[0] if len(written) == 1 else written)} (images end "
            f"in {', '.join(sorted(IMAGE_SUFFIXES))})"
        )
    # A list may name an image several times, to show it more often. Each time becomes a file of its own.
    seen: Counter[str] = Counter()
    for image, name in sorted(images, key=lambda pair: pair[1]):
        repeat = f"repeat{seen[name]}/" if seen[name] else ""
        seen[name] += 1
        yield Sample(image, label_path(image, place.confined), repeat + name)


def _resolve_split(path: str, root: Path, place: Place, key: str) -> Path:
    found = (root / path).resolve()
    if not found.exists() and path.startswith("../"):
        # As check_det_dataset does, for exports whose YAML lies one folder off.
        found = (root / path[3:]).resolve()
    if place.confined and not found.is_relative_to(place.confined):
        raise DatasetError(
            f"Dataset {place.source!r}: {key}: {path!r} leads outside the data set; use a path inside it"
        )
    if not found.exists():
        raise DatasetError(
            f"Dataset {place.source!r}: {key}: {path!r} does not exist in {root}; correct the path"
        )
    return found


def _images(found: Path, root: Path, place: Place) -> Iterable[tuple[Path, str]]:
    if found.is_dir():
        return ((found / path, path) for path in images_below(found))
    if not is_image(found.name):
        return _listed(found, root, place)
    return [(found, found.name)]


def _listed(file: Path, root: Path, place: Place) -> list[tuple[Path, str]]:
    images: list[Path] = []
    findings: list[Finding] = []
    for number, line in _lines(file, place.source):
        if not (text := line.strip()):
            continue
        if len(findings) >= FINDINGS_PER_FILE:
            findings.append(Finding(file.name, number, "the rest of the list was not read"))
            break
        # `./` is relative to the list for Ultralytics; other relative paths are to its working directory,
        # here the root.
        image = Path(os.path.normpath((file.parent if text.startswith("./") else root) / text))
        if place.confined and not image.is_relative_to(place.confined):
            findings.append(Finding(file.name, number, f"{shown(text)} leads outside the data set"))
        elif not is_image(text):
            findings.append(Finding(file.name, number, f"{shown(text)} is not the name of an image"))
        elif not image.is_file():
            findings.append(Finding(file.name, number, f"{shown(text)} does not exist"))
        else:
            images.append(image)
    if findings:
        raise DatasetError.of_findings(place.source, findings)
    common = os.path.commonpath([image.parent for image in images]) if images else ""
    return [(image, str(image.relative_to(common))) for image in images]


def _lines(file: Path, source: str) -> Iterator[tuple[int, str]]:
    try:
        yield from read_lines(file, most_bytes=LIST_BYTES, most_lines=IMAGES, longest=PATH_BYTES)
    except (OSError, ValueError) as error:
        raise DatasetError(f"Dataset {source!r}: {file.name} is not a list of images: {error}") from error


def label_path(image: Path, below: Path | None = None) -> Path:
    """Derive where an image's labels belong, as `img2label_paths` does: the last /images/ becomes /labels/.

    Only the part of the path below `below` counts, so that it does not matter where fetched data are kept.
    """
    base = below or Path("/")
    inner = f"{os.sep}{image.relative_to(base)}"
    swapped = f"{os.sep}labels{os.sep}".join(inner.rsplit(f"{os.sep}images{os.sep}", 1))
    return base / f"{swapped.rsplit('.', 1)[0]}.txt".lstrip(os.sep)
