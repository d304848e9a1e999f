"""The page of the results: `python -m benchmarks.gpu.page gpu-results/results.jsonl` writes docs/gpu.md."""

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
        return f"\n{outcome.status.capitalize()}: {outcome.reason.rstrip('.')}.\n"
    return ""


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
