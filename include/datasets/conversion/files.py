"""The files of a converted dataset: labels and a data YAML in a folder, and the origin of each image.

    {folder}/dataset/data.yaml, labels/{split}/…   the files that the conversion writes
    {folder}/images.jsonl                          name, and path or url, of every other file
    {folder}/fetched/…                             the files that were fetched from URLs
    {folder}/fetched.key                           the key of the export for which files were fetched

Names are relative to the converted dataset. URLs may be signed, so images.jsonl stays in a folder that
belongs to this account, and is removed with the folder.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from include.datasets.checking.label_files import build_label_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from include.datasets.rules import Split

DATA_YAML = "data.yaml"
_LIST = "images.jsonl"
_FETCHED, _FETCHED_KEY = "fetched", "fetched.key"


@dataclass(frozen=True)
class Asset:
    """An image, or another file that is used unchanged."""

    name: str
    """Relative to the converted dataset."""
    path: str | None = None
    """Path of the file on this machine; None if it has a URL."""
    url: str | None = None
    """URL from which the file must be fetched; None if it is on this machine."""


@dataclass(frozen=True)
class ConvertedFiles:
    """The folder that one conversion writes to."""

    folder: Path
    """Path of the folder; the module's docstring lists its files."""

    @property
    def dataset(self) -> Path:
        """The folder of the files that the conversion wrote."""
        return self.folder / "dataset"

    def clear(self) -> None:
        """Remove the files that an earlier attempt wrote, but not those that it fetched."""
        shutil.rmtree(self.dataset, ignore_errors=True)
        self.dataset.mkdir()

    def keep_fetched(self, key: str) -> None:
        """Remove the files that an earlier attempt fetched, unless they belong to an export with this key.

        A different export may have a different image under the same name.
        """
        recorded = self.folder / _FETCHED_KEY
        if recorded.is_file() and recorded.read_text(encoding="utf-8") == key:
            return
        if (self.folder / _FETCHED).exists():
            shutil.rmtree(self.folder / _FETCHED)
        recorded.write_text(key, encoding="utf-8")

    def locate_fetched(self, asset: Asset) -> Path:
        """Return the path that a file with a URL has once it has been fetched."""
        return self.folder / _FETCHED / asset.name

    def prepare_label(self, image: str) -> Path:
        """Return the path of an image's label file, and create its folder."""
        path = Path(build_label_path(str(self.dataset / image), self.dataset))
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def describe(self, splits: Iterable[Split], names: list[str], extras: Mapping[str, Any]) -> None:
        """Write the data YAML."""
        description: dict[str, Any] = {
            **{split: f"images/{split}" for split in splits},
            "names": dict(enumerate(names)),
            **extras,
        }
        text = yaml.safe_dump(description, sort_keys=False, allow_unicode=True)
        (self.dataset / DATA_YAML).write_text(text, encoding="utf-8")

    def write_asset_list(self, assets: Iterable[Asset]) -> None:
        """Write the list of the files that the conversion does not write itself."""
        with (self.folder / _LIST).open("w", encoding="utf-8") as file:
            for asset in assets:
                file.write(f"{json.dumps(asdict(asset))}\n")

    def read_asset_list(self) -> Iterator[Asset]:
        """Read the list that `write_asset_list` wrote."""
        with (self.folder / _LIST).open(encoding="utf-8") as file:
            for line in file:
                yield Asset(**json.loads(line))

    def list_files(self) -> Iterator[tuple[str, Path]]:
        """Yield the name and path of each file of the converted dataset."""
        for path in self.dataset.rglob("*"):
            if path.is_file():
                yield str(path.relative_to(self.dataset)), path
        for asset in self.read_asset_list():
            yield asset.name, Path(asset.path) if asset.path else self.locate_fetched(asset)
