"""Converts COCO annotations. Runs in a confined process, see confinement.py."""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from include.datasets.conversion.coco_file import CocoFile, OtherFile, identify, read_coco_file
from include.datasets.conversion.coco_images import Placement
from include.datasets.conversion.coco_labels import (
    RowDatabase,
    describe_keypoints,
    drop_umbrella,
    in_line,
    label_object,
    merge_categories,
)
from include.datasets.conversion.coco_search import choose_files, find_split, walk
from include.datasets.conversion.files import Asset, ConvertedFiles
from include.datasets.conversion.problems import Problems, log_notes
from include.datasets.disk import is_passing
from include.datasets.errors import DatasetError
from include.datasets.layouts.boundary import Boundary, LeadsOutside
from include.datasets.layouts.layout import translate_reading_errors
from include.datasets.progress import ProgressLog
from include.limits import COCO_ANNOTATIONS, COCO_FILES
from include.refusals import list_some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from include.datasets.conversion.coco_labels import Classes
    from include.datasets.conversion.coco_search import Tree
    from include.ultralytics_tasks import Task


logger = logging.getLogger(__name__)

PRELOADED = ("numpy", "cv2", "PIL.Image")
"""Modules that the confined process imports before its memory is limited."""

_TASKS: tuple[Task, ...] = ("detect", "segment", "semantic", "pose", "obb")
"""Tasks for which COCO annotations can be used; for obb, the label is the object's outline."""


def convert_coco(
    folder: str, source: str, barred: str | None, named: str | None, task: Task, work: str
) -> dict[str, int] | None:
    """Write the labels and the data YAML of the COCO dataset in `folder` to `work`, see files.py.

    `named` is the annotation file that the user chose, relative to the folder. Returns notes on what was
    skipped or replaced, each with the number of items; None if the folder has no COCO annotations. Unless the
    user chose one of them, more than COCO_FILES JSON files do not count as annotations. Raises DatasetError,
    and OSErrors after which a retry may succeed.
    """
    boundary = Boundary(Path(folder), source, Path(barred) if barred else None)
    with translate_reading_errors(source):
        tree = walk(Path(folder), boundary)
    problems = Problems(source, "annotations")
    candidates = choose_files(tree.annotations, task, named)
    if named is None and len(candidates) > COCO_FILES:
        logger.warning(
            "Dataset %r has %d JSON files, more than %d, so none of them is read as COCO annotations. If "
            "they contain COCO annotations, give the address of one of them as the dataset",
            source,
            len(candidates),
            COCO_FILES,
        )
        return None
    read = [_read(tree, boundary, name, problems) for name in candidates]
    found = [file for file in read if isinstance(file, CocoFile)]
    others = [file for file in read if isinstance(file, OtherFile)]
    if not found and named is None:
        return None
    if task not in _TASKS:
        raise DatasetError(
            f"Dataset {source!r} has COCO annotations, but task={task!r} needs data in a different format; "
            f"COCO annotations can be used for {', '.join(_TASKS)}"
        )
    _report_unreadable(others, found, problems)
    problems.raise_any()
    if not found:
        raise DatasetError(
            f"Dataset {source!r}: {named} is not a COCO file; it needs images, annotations and categories"
        )
    placement = Placement(tree, boundary, problems)
    numbers = placement.place_all(found)
    problems.raise_any()
    _require_both_splits(placement, found, source)
    stretched = placement.compare_sizes()
    conversion = _Conversion(task, found, numbers, placement, ConvertedFiles(Path(work)), problems)
    return conversion.write(sum(other.is_half for other in others), stretched)


def _report_unreadable(others: Sequence[OtherFile], found: Sequence[CocoFile], problems: Problems) -> None:
    """Add a problem for each unreadable file that probably contains annotations.

    Such a file is in the same folder as a COCO file, and its name indicates a split.
    """
    folders = {PurePosixPath(file.name).parent for file in found}
    for other in others:
        path = PurePosixPath(other.name)
        if other.problem is not None and path.parent in folders and find_split(path.name):
            problem = f"the file cannot be read: {other.problem}; export it again, or remove it"
            problems.add(problem, other.name)


def _read(tree: Tree, boundary: Boundary, name: str, problems: Problems) -> CocoFile | OtherFile | None:
    try:
        path = Path(boundary.resolve_file(str(tree.folder / name)))
    except (LeadsOutside, OSError) as problem:
        if is_passing(problem):
            raise
        problems.add(f"the file is refused: {problem}", name)
        return None
    return read_coco_file(path, name, problems)


def _require_both_splits(placement: Placement, found: Sequence[CocoFile], source: str) -> None:
    if empty := sorted({"train", "val"}.difference(placement.find_filled_splits())):
        names = list_some([file.name for file in found], 5)
        raise DatasetError(
            f"Dataset {source!r} has no image for {' and '.join(empty)} in its COCO annotations ({names}); "
            "add an annotation file for each missing split, such as val.json"
        )


@dataclass
class _Conversion:
    """Converts the annotations of all files to label files."""

    _task: Task
    """The task of the training run."""
    _found: Sequence[CocoFile]
    """The COCO files, in the order of their paths."""
    _numbers: Sequence[Mapping[int | str, int]]
    """For each file, a mapping from the id of each image to its index in `_placement.targets`."""
    _placement: Placement
    """The images of all files."""
    _files: ConvertedFiles
    """The files to write."""
    _problems: Problems
    """Receives the problems of categories and annotations."""
    _notes: Counter[str] = field(default_factory=Counter)
    """For each note, how many items were skipped or replaced."""
    _used: set[int] = field(default_factory=set)
    """The categories that have annotations."""
    _lengths: set[int] = field(default_factory=set)
    """The numbers of keypoints in annotations."""
    _count: int = 0
    """Number of annotations read so far, in all files."""

    def write(self, half_files: int, stretched: int) -> dict[str, int]:
        """Write all files. Returns notes on what was skipped or replaced, each with the number of items.

        `half_files` is the number of JSON files that have only images or only annotations, and `stretched`
        that of images with another aspect ratio than in the annotations.
        """
        classes = merge_categories(((file.name, file.categories) for file in self._found), self._problems)
        with closing(RowDatabase(self._files.folder / "rows.sqlite")) as rows:
            for file, numbers in zip(self._found, self._numbers, strict=True):
                self._read_annotations(file, numbers, rows)
            self._problems.raise_any()
            classes = drop_umbrella(classes, self._used)
            self._write_labels(rows, {key: number for number, key in enumerate(classes)})
        names = [category.name for category in classes.values()]
        self._files.describe(self._placement.find_filled_splits(), names, self._build_extras(classes))
        self._files.write_asset_list(
            Asset(target.asset, path=str(target.path)) for target in self._placement.targets
        )
        noted = {
            "images are not named in any annotation file, and are skipped": self._placement.count_unnamed(),
            "JSON files have images or annotations, but not both, and are skipped": half_files,
            "images have another aspect ratio than in the annotations, so labels may be shifted": stretched,
        }
        self._notes += Counter(noted)  # adds only those above zero
        log_notes(self._notes, self._problems.source)
        return self._notes

    def _read_annotations(self, file: CocoFile, numbers: Mapping[int | str, int], rows: RowDatabase) -> None:
        progress = ProgressLog(f"Reading annotations of {file.name}", None, "annotations")
        try:
            for annotation in file.read_annotations():
                self._count += 1
                if self._count > COCO_ANNOTATIONS:
                    limit = f"the limit of {COCO_ANNOTATIONS:,} annotations"
                    self._problems.add(
                        f"the dataset exceeds {limit}; split it into several datasets", file.name
                    )
                    return
                try:
                    self._read_annotation(file, numbers, annotation, rows)
                except ValueError as problem:
                    self._problems.add(str(problem), f"{file.name}: annotation {identify(annotation)}")
                progress.advance()
        except (ValueError, OSError) as problem:
            if is_passing(problem):
                raise
            self._problems.add(f"the file cannot be read: {problem}; export it again", file.name)

    def _read_annotation(
        self, file: CocoFile, numbers: Mapping[int | str, int], annotation: Any, rows: RowDatabase
    ) -> None:
        if not isinstance(annotation, dict):
            raise ValueError("it is not an object with keys")  # noqa: TRY004 - callers expect ValueError
        image = annotation.get("image_id")
        if not isinstance(image, int | str) or image not in file.images:
            raise ValueError("image_id matches no image in the file; add the image, or remove the annotation")
        if (number := numbers.get(image)) is None:
            return  # the image has a problem
        row = label_object(annotation, file.images[image], self._task)
        if row.note:
            self._notes[row.note] += 1
        if not row.numbers:
            rows.add(number)
            return
        category = annotation.get("category_id")
        if type(category) is not int or category not in file.categories:
            raise ValueError("category_id matches no category in the file; add the category, or fix the id")
        self._used.add(category)
        if self._task == "pose":
            self._lengths.add((len(row.numbers) - 4) // 3)
        rows.add(number, (category, *row.numbers))

    def _write_labels(self, rows: RowDatabase, classes: Mapping[int, int]) -> None:
        targets = self._placement.targets
        progress = ProgressLog("Writing labels", len(targets), "files")
        for number, found in rows.group_by_image():
            lines = (in_line((classes[int(category)], *numbers)) for category, *numbers in found)
            self._files.prepare_label(targets[number].asset).write_text("".join(lines), encoding="utf-8")
            progress.advance()

    def _build_extras(self, classes: Classes) -> Mapping[str, Any]:
        if self._task != "pose":
            return {}
        try:
            return describe_keypoints(classes, self._lengths)
        except ValueError as problem:
            raise DatasetError(f"Dataset {self._problems.source!r}: {problem}") from None
