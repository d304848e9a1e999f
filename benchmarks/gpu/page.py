"""docs/gpu.md: `python -m benchmarks.gpu.page gpu-results/results.jsonl` puts the results of a run into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.gpu.record import Outcome
    from benchmarks.gpu.step import Step


def table_of(step: Step, outcome: Outcome) -> str:
    """One step as Markdown, with how it ended where that was not well."""
    lines = [step.columns, ["---"] * len(step.columns), *outcome.rows]
    table = "\n".join(f"| {' | '.join(map(_cell, cells))} |" for cells in lines)
    return f"## {step.name}\n\n{step.about}\n\n{table}\n{_remark(outcome)}"


def _remark(outcome: Outcome) -> str:
    if outcome.status in {"skipped", "failed"}:
        return f"\n{outcome.status.capitalize()}: {outcome.reason}.\n"
    return ""


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
