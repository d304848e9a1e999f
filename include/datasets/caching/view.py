"""The view that Ultralytics gets as `data`: our own folder with links to exactly the files that were checked.

It contains nothing else from the source: no `*.cache` (which Ultralytics would unpickle), no `*.npy` (which
it would load instead of the image), no `download` (which it would run). Whatever Ultralytics writes next to
images and labels, such as its caches and the JPEG files that it rewrites, stays in the view: the user's
folder and the fetched content are never touched.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from include.datasets.checking.label_files import label_path
from include.datasets.layouts.layout import read_layout
from include.datasets.layouts.samples import Place
from include.datasets.progress import Progress

if TYPE_CHECKING:
    from include.datasets.layouts.samples import Layout
    from include.datasets.rules import Split


def fill_fetched_view(place: dict[str, Any], task: str, split: Split, partial: str, final: str) -> None:
    """Write the view of fetched data; runs in a confined process, which returns its memory when it ends."""
    fill_view(read_layout(Place.from_json(place), task, split), Path(partial), Path(final))


def fill_view(layout: Layout, partial: Path, final: Path) -> None:
    """Write the view into `partial`, a folder that will be renamed to `final`."""
    progress = Progress("Linking", sum(map(len, layout.splits.values())), "images")
    if layout.task == "classify":
        for split, samples in layout.splits.items():
            for sample in samples:
                _link(partial / split / sample.name, sample.image, final.parent)
                progress.advance()
        return
    for split, samples in layout.splits.items():
        for sample in samples:
            image = partial / "images" / split / sample.name
            _link(image, sample.image, final.parent)
            if sample.label and sample.label.is_file():
                # Where Ultralytics will look for it, which also depends on folder names within the split.
                label = label_path(image, partial, layout.labels.in_view, sample.suffix)
                _link(label, sample.label, final.parent)
            progress.advance()
    _write_description(layout, partial, final)


def data_argument(view: Path, task: str) -> Path:
    """Return Ultralytics' argument `data`: the folder for classify, otherwise the data YAML."""
    return view if task == "classify" else view / "data.yaml"


def _link(link: Path, target: Path, home: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink():  # images that differ only in their suffix share a label file
        return
    # A link of less than 60 characters takes no block of the disk: 400 MB for 100,000 images.
    link.symlink_to(os.path.relpath(target, link.parent) if target.is_relative_to(home) else target)


def _write_description(layout: Layout, partial: Path, final: Path) -> None:
    validation = f"images/{layout.validation}"
    description = {
        "path": str(final),
        "train": "images/train",
        # Ultralytics requires `val`, whichever split it validates with.
        "val": validation,
        **({"test": validation} if layout.validation == "test" else {}),
        "names": layout.names,
        **layout.extras,
    }
    text = yaml.safe_dump(description, sort_keys=False, allow_unicode=True)
    (partial / "data.yaml").write_text(text, encoding="utf-8")
