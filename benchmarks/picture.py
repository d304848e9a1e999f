"""Draw the ratios of a table, each against its target."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from benchmarks.table import Comparison, Table

_MET, _MISSED, _LIMIT = "#2f7d4f", "#c2571a", "#444444"
_INCHES_PER_BAR = 0.32


def draw(table: Table, path: Path) -> None:
    """Write a picture in the format that the file's suffix names, unless the table has no comparisons."""
    from matplotlib.figure import Figure

    if not table.comparisons:
        return
    bars = [len(comparison.ratios) for comparison in table.comparisons]
    height = _INCHES_PER_BAR * sum(bars) + 1.2 * len(bars)
    figure = Figure(figsize=(9, height), layout="constrained")
    for axes, comparison in zip(
        figure.subplots(len(bars), squeeze=False, height_ratios=bars).flat, table.comparisons, strict=True
    ):
        _draw_bars(axes, comparison)
    figure.suptitle(table.title)
    figure.savefig(path, metadata={"Date": None})


def _draw_bars(axes: Axes, comparison: Comparison) -> None:
    names, ratios = list(comparison.ratios), list(comparison.ratios.values())
    colours = [_MET if comparison.is_met(ratio) else _MISSED for ratio in ratios]
    axes.bar_label(axes.barh(names, ratios, color=colours), fmt="%.2f", padding=3)
    axes.axvline(comparison.limit, color=_LIMIT, linestyle="--", linewidth=1)
    axes.set_title(comparison.target, fontsize="medium")
    axes.set_xlim(0, 1.15 * max(*ratios, comparison.limit))
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
