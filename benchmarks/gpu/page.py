"""Write the results into docs/gpu.md: `python -m benchmarks.gpu.page gpu-results/results.jsonl`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.record import Record

if TYPE_CHECKING:
    from benchmarks.gpu.record import Outcome, Run
    from benchmarks.gpu.step import Step

PAGE = Path(__file__).resolve().parents[2] / "docs" / "gpu.md"

NO_CLAIM = "# On a GPU: not measured yet, so no claim is made"

_RESULTS = re.compile(r"(?<=<!-- results -->\n).*(?=<!-- end of results -->)", re.DOTALL)


def render(page: str, run: Run) -> str:
    """Return the page with its tables replaced by those of this run.

    Raises ValueError for a run on a CPU.
    """
    if run.about and run.about["device"] == "cpu":
        raise ValueError(f"`{run.about['command']}` was run on a CPU; {PAGE.name} is about GPUs.")
    _, _, rest = page.partition("\n")
    results = f"\n{_tables(run)}\n"
    return f"{_heading(run)}\n{_RESULTS.sub(lambda _: results, rest)}"


def format_table(step: Step, outcome: Outcome) -> str:
    """Format the rows of a step as Markdown; if the step was skipped or failed, add the reason."""
    lines = [step.columns, ["---"] * len(step.columns), *outcome.rows]
    table = "\n".join(f"| {' | '.join(map(_cell, cells))} |" for cells in lines)
    return f"## {step.name}\n\n{step.about}\n\n{table}\n{_remark(outcome)}"


def _heading(run: Run) -> str:
    if not run.about:
        return NO_CLAIM
    return f"# On a GPU: {_card(run)}, {run.about['date']}, `{run.about['command']}`"


def _card(run: Run) -> str:
    found = {row[0]: row[1] for row in run.outcome("profile").rows}
    return str(found.get("device", "a card whose name is unknown"))


def _tables(run: Run) -> str:
    from benchmarks.gpu.steps import STEPS

    return "\n".join(format_table(step, run.outcome(step.name)) for step in STEPS)


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


def main() -> None:
    """Write the newest run in the results file, which the command line names, into the page."""
    latest = Record(Path(sys.argv[1])).latest()
    try:
        page = render(PAGE.read_text(encoding="utf-8"), latest)
    except ValueError as error:
        sys.exit(str(error))
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
