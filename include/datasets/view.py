"""What Ultralytics gets as `data`: a folder of our own with links to exactly the files that were checked.

Nothing else of the source is in it: no `*.cache` (which Ultralytics would unpickle), no `*.npy` (which it
would take for the image), no `download` (which it would run). What Ultralytics writes beside images and
labels, its caches and the JPEG files that it rewrites, stays here: the user's folder and the fetched content
are never touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from include.datasets.labelled import label_path

if TYPE_CHECKING:
    from pathlib import Path

    from include.datasets.samples import Layout


def fill_view(layout: Layout, partial: Path, final: Path) -> None:
    """Write the view into `partial`, a folder that will be renamed to `final`."""
    if layout.task == "classify":
        for split, samples in layout.splits.items():
            for sample in samples:
                _link(partial / split / sample.name, sample.image)
        return
    for split, samples in layout.splits.items():
        for sample in samples:
            image = partial / "images" / split / sample.name
            _link(image, sample.image)
            if sample.label and sample.label.is_file():
                # Where Ultralytics will look for it, which depends on the folders' names inside the split,
                # too.
                _link(label_path(image, partial), sample.label)
    _write_description(layout, partial, final)


def data_of_view(view: Path, task: str) -> Path:
    """Return what Ultralytics gets as `data`: the folder for classify, else the data YAML."""
    return view if task == "classify" else view / "data.yaml"


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():  # images that differ in their suffix alone share a label file
        link.symlink_to(target)


def _write_description(layout: Layout, partial: Path, final: Path) -> None:
    description = {
        "path": str(final),
        "train": "images/train",
        "val": "images/val",
        "names": layout.names,
        **layout.extras,
    }
    text = yaml.safe_dump(description, sort_keys=False, allow_unicode=True)
    (partial / "data.yaml").write_text(text, encoding="utf-8")
