"""The view that Ultralytics gets as `data`: our own folder with links to exactly the files that were checked.

It contains nothing else from the source: no `*.cache` (which Ultralytics would unpickle), no `*.npy` (which
it would load instead of the image), no `download` (which it would run). Whatever Ultralytics writes next to
images and labels, such as its caches and the JPEG files that it rewrites, stays in the view: the user's
folder and the fetched content are never touched.
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
                # Where Ultralytics will look for it, which also depends on folder names within the split.
                _link(label_path(image, partial), sample.label)
    _write_description(layout, partial, final)


def data_argument(view: Path, task: str) -> Path:
    """Return Ultralytics' argument `data`: the folder for classify, otherwise the data YAML."""
    return view if task == "classify" else view / "data.yaml"


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():  # images that differ only in their suffix share a label file
        link.symlink_to(target)


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
