"""Measure what the project costs Airflow: the time to parse each Dag file, and the memory of its processes.

`python -m benchmarks.parsing [--quick]` prints the table.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psutil

from benchmarks.figures import MedianInterval, ratios, rotated
from benchmarks.place import main, stopping
from benchmarks.table import Table, progress
from include.limits import MIB
from include.stack import processes
from include.stack.airflow import REPOSITORY
from include.stack.local import Stack
from include.stack.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from include.stack.airflow import Airflow

MEASURED = ("api-server", "scheduler", "dag-processor")
WORKERS = "workers of the scheduler"
"""Processes in which tasks run. With our executor, they have already imported torch; with Airflow's executor,
each task imports it."""

EMPTY_DAG = """\
from airflow.sdk import dag


@dag(schedule=None)
def empty():
    pass


empty()
"""

_PARSE = """\
import time
started = time.perf_counter()
import runpy, sys
runpy.run_path(sys.argv[1])
print(f"seconds: {time.perf_counter() - started}")
"""


def measure(folder: Path, quick: bool) -> Table:
    """Parse each file, alternating with an empty Dag, then start the stacks one after the other."""
    rounds, settle = (1, 2.0) if quick else (11, 120.0)
    table = Table(
        "What the project costs Airflow",
        "Parsing: each Dag file runs in a fresh process, alternating with a file that defines an empty Dag. "
        "The seconds include the import of the Airflow SDK, but not the start of Python. The ratio is the "
        f"median of the ratios of {rounds} pairs, with its 95 % CI. Memory: the proportional set size of "
        f"each part and its children, {settle:.0f} s after the start and some requests; the median of "
        "samples taken a second apart. A whole local stack with the project is compared with one without "
        "the project's plugins, executor and Dags; each runs alone on the machine. Without a GPU, the local "
        "stack's executor imports torch into the scheduler ahead of the tasks. The last column shows the "
        "project with Airflow's own executor, as in deployments without the local stack.",
        ("", "bare Airflow", "with the project", "ratio", "with Airflow's executor"),
    )
    files = sorted((REPOSITORY / "dags").glob("*.py"))
    parsing = _add_parsing(table, folder, files[:1] if quick else files, rounds)
    kinds = (BareStack, Stack) if quick else (BareStack, Stack, PlainExecutorStack)
    memory = _add_memory(table, folder, kinds, settle, samples=2 if quick else 15)
    table.result = (
        f"for parsing, {table.compare('at most 1.3', parsing, 1.3)} "
        f"For memory, {table.compare('at most 1.1', memory, 1.1)}"
    )
    return table


def _add_parsing(table: Table, folder: Path, files: list[Path], rounds: int) -> dict[str, float]:
    """Add a row for each Dag file; return the median ratios."""
    empty = folder / "empty.py"
    empty.write_text(EMPTY_DAG)
    bare: dict[str, list[float]] = {file.name: [] for file in files}
    ours: dict[str, list[float]] = {file.name: [] for file in files}
    for file in (empty, *files):  # compiles the imported modules, and reads them into the page cache
        parse(file, folder)
    for number in range(rounds):
        progress(f"parsing, round {number + 1} of {rounds} …")
        for file in files:
            for parsed, seconds in rotated(((empty, bare), (file, ours)), number):
                seconds[file.name].append(parse(parsed, folder))
    found = {name: ratios(ours[name], bare[name]) for name in ours}
    for name, values in found.items():
        before, after = MedianInterval.of(bare[name]), MedianInterval.of(ours[name])
        table.add(
            f"parse {name}", f"{before:.2f} s", f"{after:.2f} s", f"{MedianInterval.of(values):.2f}", ""
        )
    return {name: statistics.median(values) for name, values in found.items()}


def parse(file: Path, home: Path) -> float:
    """Run the file in a fresh process; return its seconds."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    environment |= {"AIRFLOW_HOME": str(home / "airflow"), "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", _PARSE, str(file)], env=environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout.rpartition("seconds: ")[2])


@dataclass(frozen=True)
class PlainExecutorStack(Stack):
    """A local stack with the project and Airflow's own executor."""

    @property
    def settings(self) -> dict[str, str]:
        """The environment variables that differ from those of the local stack."""
        return {"AIRFLOW__CORE__EXECUTOR": "LocalExecutor"}

    @property
    def airflow(self) -> Airflow:
        """Airflow with these settings."""
        ours = super().airflow
        return replace(ours, variables={**ours.variables, **self.settings})


@dataclass(frozen=True)
class BareStack(PlainExecutorStack):
    """A local stack with Airflow's own executor, and without the project's plugins and Dags."""

    @property
    def settings(self) -> dict[str, str]:
        """The environment variables that differ from those of the local stack."""
        empty = str(self.state.make_private("nothing"))
        return super().settings | {
            "AIRFLOW__CORE__DAGS_FOLDER": empty,
            "AIRFLOW__CORE__PLUGINS_FOLDER": empty,
        }


def _add_memory(
    table: Table, folder: Path, kinds: tuple[type[Stack], ...], settle: float, samples: int
) -> dict[str, float]:
    """Add a row for each part of Airflow; return the ratios of all parts except the workers."""
    bare, ours, *plain = (_memory(kind, folder / "stack", settle, samples) for kind in kinds)
    for part in (*MEASURED, WORKERS):
        table.add(
            f"memory of {part}",
            *(f"{size[part] / MIB:,.0f} MiB" for size in (bare, ours)),
            f"{ours[part] / bare[part]:.2f}" if bare[part] else "",
            "".join(f"{size[part] / MIB:,.0f} MiB" for size in plain),
        )
    return {part: ours[part] / bare[part] for part in MEASURED}


def _memory(kind: type[Stack], folder: Path, settle: float, samples: int) -> dict[str, float]:
    """Start the stack on the databases in `folder`; return the median memory of each part in bytes."""
    progress(f"starting {kind.__name__} …")
    with stopping(kind.at(folder)) as stack:
        stack.up(Steps.quiet())
        time.sleep(settle / 2)
        stack.api.ensure_pool("some", 1, "A request that imports what the API server needs.")
        time.sleep(settle / 2)
        found: list[dict[str, int]] = []
        for _ in range(samples):
            found.append(_sizes(stack))
            time.sleep(1)
    return {part: statistics.median(each[part] for each in found) for part in found[0]}


def _sizes(stack: Stack) -> dict[str, int]:
    sizes = dict.fromkeys((*MEASURED, WORKERS), 0)
    for service in stack.airflow.services:
        process = processes.find_process(service)
        if service.name not in MEASURED or process is None:
            continue
        for title, size in _family(service.name, process):
            sizes[title] += size
    return sizes


def _family(part: str, process: psutil.Process) -> Iterator[tuple[str, int]]:
    """Yield the row to which each process of a part belongs, and the size of the process in bytes."""
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            title = WORKERS if part == "scheduler" and each != process else part
            yield title, each.memory_full_info().pss


if __name__ == "__main__":
    main(measure)
