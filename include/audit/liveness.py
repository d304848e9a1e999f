"""Finds out which Dag runs are active, with only a few requests to Airflow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence

Run = tuple[str, str]
"""Dag id and run id."""

LiveRuns = Callable[[Collection[Run]], set[Run]]
"""Returns which of these runs are queued or running; a deleted run is neither."""

_AT_ONCE = 50
"""Run ids per request. They are sent in the URL, which servers limit to a few kilobytes."""


def find_live(runs: Collection[Run], count: Callable[[str, Sequence[str]], int]) -> set[Run]:
    """Return those of `runs` that are active; `count(dag_id, run_ids)` returns how many of `run_ids` are.

    Usually none is active, so a single count of zero often settles many runs.
    """
    by_dag: dict[str, list[str]] = defaultdict(list)
    for dag_id, run_id in sorted(set(runs)):
        by_dag[dag_id].append(run_id)
    return {
        (dag_id, run_id)
        for dag_id, run_ids in by_dag.items()
        for start in range(0, len(run_ids), _AT_ONCE)
        for run_id in _find_live(dag_id, run_ids[start : start + _AT_ONCE], count)
    }


def _find_live(
    dag_id: str, run_ids: Sequence[str], count: Callable[[str, Sequence[str]], int]
) -> Iterator[str]:
    live = count(dag_id, run_ids)
    if live == len(run_ids):
        yield from run_ids
    elif live:
        middle = len(run_ids) // 2
        yield from _find_live(dag_id, run_ids[:middle], count)
        yield from _find_live(dag_id, run_ids[middle:], count)
