"""Steps that the tests of data sets share."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from include.datasets.check import check_dataset
from include.datasets.errors import DatasetError


def refusal(source: Path | str, task: str, cache: Path) -> str:
    with pytest.raises(DatasetError) as refused:
        check_dataset(str(source), task, cache, None)
    return str(refused.value)


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def describe(folder: Path, **changes: object) -> Path:
    """Change keys of data.yaml; None removes one."""
    file = folder / "data.yaml"
    data = yaml.safe_load(file.read_text()) | changes
    file.write_text(yaml.safe_dump({key: value for key, value in data.items() if value is not None}))
    return file
