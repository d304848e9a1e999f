"""Converts an .ndjson export in a confined process, see confinement.py. The images are fetched afterwards."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.datasets.conversion.addresses import parse_address, strip_signature
from include.datasets.conversion.files import Asset, ConvertedFiles
from include.datasets.conversion.ndjson_file import (
    infer_keypoints,
    read_header,
    read_labels,
    read_lines,
    read_record,
)
from include.datasets.conversion.ndjson_names import Names, name_class_folder
from include.datasets.conversion.problems import Problems, log_notes
from include.datasets.disk import is_passing
from include.datasets.errors import DatasetError
from include.datasets.progress import ProgressLog
from include.datasets.rules import SPLITS
from include.limits import CLASSES, IMAGES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from include.datasets.conversion.ndjson_file import Header, Record
    from include.ultralytics_tasks import Task


_VERSION = 1
"""Increase this when the conversion of exports changes, so that they are converted again."""

_SAMPLED = 50
"""Number of labels from which the shape of keypoints is inferred, as in Ultralytics."""

_LAYOUTS: set[Task] = {"classify", "depth"}
"""Tasks whose data layout no other task can use."""


def convert_ndjson(file: str, source: str, task: Task, work: str) -> dict[str, Any]:
    """Write the labels and the data YAML of an export to `work`, and list the images to fetch (see files.py).

    In the result, `key` identifies the content: it is the same if Platform exports the content again with new
    signatures. `hosts` has the number of files on each host. `notes` says what was skipped or replaced, with
    the number of items. Raises DatasetError, and OSErrors that name no file or after which a retry may
    succeed.
    """
    export = _Export(Path(file), source, task)
    try:
        before = _read_state(export.path)
        export.survey()
        export.write(ConvertedFiles(Path(work)))
        if _read_state(export.path) != before:
            raise DatasetError(f"Dataset {source!r} was replaced while it was being converted; try again")
    except (ValueError, OSError) as problem:
        if is_passing(problem) or (isinstance(problem, OSError) and problem.filename is None):
            raise
        raise DatasetError(f"Dataset {source!r} is not a valid .ndjson export: {problem}") from None
    log_notes(export.notes, source)
    return {"key": export.key, "hosts": export.hosts, "notes": export.notes}


@dataclass
class _Export:
    """One export. It is read twice: to survey it, and to write its labels."""

    path: Path
    """Path of the .ndjson file on this machine."""
    source: str
    """The dataset as the user named it, for messages."""
    task: Task
    """The task of the training run."""
    notes: Counter[str] = field(default_factory=Counter)
    """For each note, how many items were skipped or replaced."""
    hosts: Counter[str] = field(default_factory=Counter)
    """The number of files on each host."""
    key: str = ""
    """Identifies the content; set by `survey`."""
    _header: Header = field(init=False)
    """The first line; set by `survey`."""
    _used: set[int] = field(default_factory=set)
    """The class ids that occur in labels."""
    _folders: dict[str, int] = field(default_factory=dict)
    """For classify, the class of each folder of images."""
    _points: list[list[float]] = field(default_factory=list)
    """The numbers after the box in each of the first labels; the shape of keypoints is inferred from them."""
    _names: Names = field(default_factory=Names)
    """The splits and names of the images; filled by `survey`."""

    def survey(self) -> None:
        """Check all lines; find the key, the hosts, and the split and name of each image.

        Raises ValueError, OSError and DatasetError.
        """
        lines = read_lines(self.path)
        first = next(lines, None)
        if first is None:
            raise ValueError("the file is empty")
        self._header = read_header(first[1])
        self._require_task()
        digest = hashlib.sha256(json.dumps([_VERSION, self.task]).encode())
        digest.update(json.dumps(first[1], sort_keys=True).encode())
        problems = Problems(self.source, "export")
        progress = ProgressLog(f"Reading {self.source}", None, "images")
        for number, given in lines:
            try:
                self._survey_record(read_record(number, given, self.task))
            except ValueError as problem:
                problems.add(str(problem), self.source.rpartition("/")[2], number)
            else:
                digest.update(self._canonicalize(given))
            progress.advance()
        problems.raise_any()
        self.key = digest.hexdigest()
        self._choose_validation()
        self._require_complete()

    def _canonicalize(self, raw: Mapping[str, Any]) -> bytes:
        """Return the line as bytes that do not change if Platform merely signs the URLs again."""
        if self._header.is_from_platform:
            raw = _without_signature(raw)
            if isinstance(raw.get("depth"), dict):
                raw = {**raw, "depth": _without_signature(raw["depth"])}
        return json.dumps(raw, sort_keys=True).encode()

    def _survey_record(self, record: Record) -> None:
        folder = ""
        if self.task == "classify":
            number = record.read_class_id()
            if number is None:
                self.notes["images have no class, and are skipped"] += 1
                return
            folder = name_class_folder(self._header.class_names.get(number, str(number)))
            if self._folders.setdefault(folder, number) != number:
                raise ValueError(
                    "class_names: another class has the same name, so their images would be mixed; rename one"
                )
        elif self.task != "depth":
            labels = read_labels(record)
            self._used.update(int(label[0]) for label in labels)
            if len(self._points) < _SAMPLED:
                self._points += [label[5:] for label in labels if len(label) > 5]
        for url in filter(None, (record.url, record.depth_url)):
            self.hosts[str(parse_address(url))] += 1
        self._names.add(record.line, record.split, folder, record.file)

    def _require_task(self) -> None:
        """Raise ValueError if the export's task has a different layout than the training run's task."""
        given = self._header.task
        if given != self.task and _LAYOUTS & {given, self.task}:
            raise ValueError(
                f"it is for task={given!r}, not for task={self.task!r}; train a model for task={given!r}"
            )

    def _choose_validation(self) -> None:
        """Move a tenth of train to val if the export has no images in val, as Ultralytics does.

        Does nothing for classify, as in Ultralytics.
        """
        train = self._names.find_lines("train")
        if self.task == "classify" or self._names.find_lines("val") or len(train) < 2:
            return
        random.Random(0).shuffle(train)  # noqa: S311 - the same choice as Ultralytics
        chosen = train[: max(1, len(train) // 10)]
        self._names.move(chosen, "val")
        self.notes["images of train are used for validation, as the export has none in val"] = len(chosen)

    def _require_complete(self) -> None:
        for split in ("train", "val"):
            count = len(self._names.find_lines(split))
            if not count:
                raise ValueError(
                    f"it has no images for {split}; assign some to this split, and export the dataset again"
                )
            if count > IMAGES:
                raise ValueError(f"it exceeds the limit of {IMAGES:,} images for {split}")
        self._names.settle()

    def write(self, files: ConvertedFiles) -> None:
        """Write the list of files to fetch and, unless the task is classify, the data YAML and any labels.

        Raises ValueError and OSError.
        """
        if self.task != "classify":
            found = [split for split in SPLITS if self._names.find_lines(split)]
            files.describe(found, self._name_classes(), self._build_extras())
        files.write_asset_list(self._write_records(files))

    def _write_records(self, files: ConvertedFiles) -> Iterator[Asset]:
        """Write the labels of each image, and yield the files that must be fetched for it."""
        progress = ProgressLog("Writing labels", None, "files")
        for number, given in read_lines(self.path):
            if (name := self._names.get(number)) is None:
                continue
            record = read_record(number, given, self.task)
            if self.task == "classify":
                yield Asset(name, url=record.url)
                continue
            yield Asset(f"images/{name}", url=record.url)
            if self.task == "depth":
                yield Asset(f"depth/{name.rpartition('.')[0]}.png", url=record.depth_url)
            else:
                lines = [f"{' '.join(map(str, label))}\n" for label in read_labels(record)]
                files.prepare_label(f"images/{name}").write_text("".join(lines), encoding="utf-8")
            progress.advance()

    def _name_classes(self) -> list[str]:
        """Return the names of the classes; a class without a name gets the same name as in Ultralytics."""
        given = self._header.class_names
        if self.task == "depth":
            return ["depth"]
        if not given and not self._used:
            raise ValueError("it has neither class_names nor labels, so there is nothing to learn")
        count = max(self._used | set(given)) + 1
        if count > CLASSES:
            raise ValueError(f"it exceeds the limit of {CLASSES:,} classes")
        return [
            given.get(number, f"class{number}" if given else f"class_{number}") for number in range(count)
        ]

    def _build_extras(self) -> dict[str, Any]:
        if self.task == "depth":
            return {"depth_scale": self._header.depth_scale}
        extras = dict(self._header.extras)
        if self.task == "pose" and "kpt_shape" not in extras:
            shape = infer_keypoints(self._points[:_SAMPLED])
            if shape is None:
                raise ValueError(
                    "kpt_shape is missing, and cannot be inferred from the labels; add it to line 1"
                )
            extras["kpt_shape"] = shape
        return extras


def _without_signature(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the object with its URL, if it has one, replaced by an identifier of the content at that URL."""
    url = holder.get("url")
    return {**holder, "url": strip_signature(url)} if isinstance(url, str) else holder


def _read_state(path: Path) -> tuple[int, ...]:
    """Return values that change if the file is replaced: labels and key must come from the same file."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
