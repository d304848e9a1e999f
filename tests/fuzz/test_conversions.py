"""Converting any export yields labels or a refusal with a reason, and touches nothing else."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st

from include.datasets.conversion.coco import convert_coco
from include.datasets.conversion.files import ConvertedFiles
from include.datasets.conversion.ndjson import convert_ndjson
from include.datasets.errors import DatasetError
from tests.fuzz.conftest import Fuzz
from tests.support.coco_datasets import build_coco, mask, rle
from tests.support.fuzz import strategies
from tests.support.ndjson_exports import export

if TYPE_CHECKING:
    from include.ultralytics_tasks import Task

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.sampled_from([
        "../../outside.png", "/etc/passwd", "file:///etc/passwd", "http://169.254.169.254/a.png",
        "a.png/../b.png", "x" * 5000, 10**400, -(2**63), [], {}, [[]], [1, 2], [None], {"counts": "~"},
        {"size": [48, 64], "counts": [10**12]}, {"size": [48, 64], "counts": "o" * 90},
        {"size": [48, 64], "counts": [3072]},
    ]),
)  # fmt: skip


def parts_of(document: Any) -> list[tuple[Any, Any]]:
    """Return every place in a document where a value can be replaced: its container, and its key or index."""
    inner = document.items() if isinstance(document, dict) else enumerate(document)
    found = [(document, key) for key, _ in inner]
    for container, key in list(found):
        if isinstance(container[key], dict | list):
            found += parts_of(container[key])
    return found


@st.composite
def altered(draw: st.DrawFn, document: Any) -> Any:
    """Return the document with a few values replaced or removed."""
    changed = copy.deepcopy(document)
    for _ in range(draw(st.integers(0, 4))):
        container, key = draw(st.sampled_from(parts_of(changed)))
        if isinstance(container, dict) and draw(st.booleans()):
            container.pop(key, None)
        else:
            # Copied, because otherwise a later change would alter the strategy's own value.
            container[key] = copy.deepcopy(draw(VALUES))
        if not parts_of(changed):
            break
    return changed


def bytes_of(document: Any) -> bytes:
    """Return a line of JSON for each element of a list, or for a single document."""
    lines = document if isinstance(document, list) else [document]
    return "\n".join(map(json.dumps, lines)).encode()


def inputs(document: Any) -> st.SearchStrategy[bytes]:
    written = altered(document).map(bytes_of)
    return st.one_of(written, written.flatmap(strategies.corrupted))


class ConvertedDataset:
    """A file that is rewritten for each input, and the result of its conversion."""

    def __init__(self, file: Path, work: Path) -> None:
        self._file, self._work = file, work

    def write(self, content: bytes) -> None:
        self._file.write_bytes(content)
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir()
        ConvertedFiles(self._work).clear()

    def is_good(self, convert: Callable[[], object]) -> bool:
        """Return whether the file was converted; a refusal must be short and disclose no secret."""
        try:
            convert()
        except DatasetError as error:
            message = str(error)
        else:
            names = [Path(asset.name) for asset in ConvertedFiles(self._work).read_asset_list()]
            assert not [name for name in names if name.is_absolute() or ".." in name.parts]
            return True
        assert message
        assert len(message.encode()) <= 4096
        assert "secret" not in message
        return False


@pytest.mark.parametrize("task", ["detect", "segment", "pose"])
def test_any_coco_annotations_are_converted_or_refused(fuzz: Fuzz, tmp_path: Path, task: Task) -> None:
    file = build_coco(tmp_path / "data") / "annotations" / "instances_train2017.json"
    document = json.loads(file.read_text())
    for index, annotation in enumerate(document["annotations"][::2]):
        annotation["segmentation"] = rle(mask(index), compressed=index % 2 == 0)
    folder, work = str(tmp_path / "data"), tmp_path / "work"
    converted = ConvertedDataset(file, work)

    def convert() -> dict[str, int] | None:
        return convert_coco(folder, "mine", None, None, task, str(work))

    fuzz(inputs(document), converted.write, lambda: converted.is_good(convert), tmp_path)


@pytest.mark.parametrize("task", ["detect", "pose", "classify", "depth"])
def test_any_ndjson_export_is_converted_or_refused(fuzz: Fuzz, tmp_path: Path, task: Task) -> None:
    file, work = tmp_path / "mine.ndjson", tmp_path / "work"
    converted = ConvertedDataset(file, work)

    def convert() -> dict[str, Any]:
        return convert_ndjson(str(file), "mine", task, str(work))

    fuzz(inputs(export(task)), converted.write, lambda: converted.is_good(convert), tmp_path)
