"""Time a training run from trigger to recorded row, compared with the shell script that a user would write.

`python -m benchmarks.pipeline [--quick]` prints both times, and when each of our tasks ran.
"""

from __future__ import annotations

import os
import shlex
import statistics
import subprocess
import sysconfig
import time
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from benchmarks.empty_tasks import EMPTY_TASKS, EmptyTasksStack
from benchmarks.figures import MedianInterval, ratios
from benchmarks.material import make_digits
from benchmarks.place import main, stopping
from benchmarks.sides import wait_until
from benchmarks.table import Table, progress
from include.deployment.settings import DEFAULT_BUCKET
from include.jobs.job import TRAINING_DAG
from include.stack.demo import TRAINING
from include.stack.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.stack.local import Stack

EPOCHS = 2
PATIENCE_SECONDS = 300.0

_TABLE = "CREATE TABLE plain_jobs (job_id text PRIMARY KEY, best text NOT NULL, last text NOT NULL)"

_SCRIPT = """\
set -e
yolo train {arguments} > {folder}/yolo.log 2>&1
s5cmd cp {folder}/run/weights/best.pt s3://{bucket}/plain/{job}/best.pt > {folder}/best.log &
best=$!
s5cmd cp {folder}/run/weights/last.pt s3://{bucket}/plain/{job}/last.pt > {folder}/last.log
wait $best
psql --quiet "$TRAINING_DB_URL" --command "INSERT INTO plain_jobs VALUES ('{job}',
    's3://{bucket}/plain/{job}/best.pt', 's3://{bucket}/plain/{job}/last.pt')"
"""
"""Trains with the same arguments, uploads both files in parallel, and records their paths."""


@dataclass
class Timeline:
    """When each task of our runs started and ended, in seconds since the trigger."""

    spans: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def add(self, task: str, start: float, end: float) -> None:
        """Add a task of one run."""
        self.spans.setdefault(task, []).append((start, end))

    def recording(self) -> list[float]:
        """Return the seconds from the end of `train` to the end of `record_checkpoints` of each run."""
        ends = ([end for _, end in self.spans[task]] for task in ("train", "record_checkpoints"))
        return [recorded - trained for trained, recorded in zip(*ends, strict=True)]

    def rows(self) -> Iterator[tuple[str, float, float]]:
        """Yield each task with the medians of its start and its end, in the order of their starts."""
        medians = [
            (task, *(statistics.median(moments) for moments in zip(*spans, strict=True)))
            for task, spans in self.spans.items()
        ]
        yield from sorted(medians, key=lambda row: row[1])


def measure(folder: Path, quick: bool) -> Table:
    """Time the script and the Dag in turn."""
    rounds = 1 if quick else 11
    data, images = make_digits(folder / "digits")
    with stopping(EmptyTasksStack.at(folder / "stack")) as stack:
        prepare(stack)
        stack.api.wait_for_dag(EMPTY_TASKS)
        script, ours, timeline, empty = [], [], Timeline(), Timeline()
        if not quick:
            _train_ours(stack, "warm-up", Timeline())
            _run_script(stack, data, folder / "warm-up")
        for number in range(rounds):
            script.append(_run_script(stack, data, folder / f"plain-{number}"))
            ours.append(_train_ours(stack, f"ours-{number}", timeline))
            _run_empty(stack, empty)
            progress(f"{number + 1} of {rounds}: script {script[-1]:.1f} s, ours {ours[-1]:.1f} s")
    table = Table(
        "From the trigger to the recorded row",
        f"{EPOCHS} epochs of the bundled digits ({images} training images of 64 px) on a warm stack: from "
        "the trigger over REST until the row has both paths. The script is what a user would write instead: "
        "it runs `yolo train` with the same arguments, copies both files to the same S3 server with s5cmd in "
        "parallel, and inserts their paths with psql while the stack is idle. Script and Dag take turns; "
        f"the ratio is the median of the ratios of {rounds} pairs, with its 95 % CI. The rows below it "
        "give the median times at which our tasks started and ended. The last rows show how long it takes "
        "from the end of `train` until the last task has written the row, compared with a Dag of the same "
        "shape whose tasks do nothing.",
        ("", "from", "to", "seconds"),
    )
    table.add("script", "", "", f"{MedianInterval.of(script):.1f}")
    table.add("ours", "", "", f"{MedianInterval.of(ours):.1f}")
    ratio = MedianInterval.of(ratios(ours, script))
    table.add("ours / script", "", "", f"{ratio:.2f}")
    for task, start, end in timeline.rows():
        table.add(task, f"{start:.1f} s", f"{end:.1f} s", f"{end - start:.1f}")
    after, nothing = timeline.recording(), empty.recording()
    table.add("from the end of `train` to the row", "", "", f"{MedianInterval.of(after):.2f}")
    table.add("the same with empty tasks", "", "", f"{MedianInterval.of(nothing):.2f}")
    recorded = MedianInterval.of(ratios(after, nothing))
    table.add("ours / empty tasks", "", "", f"{recorded:.2f}")
    whole = table.compare("at most 1.0", {"ours / script": ratio.median}, 1.0)
    rest = table.compare("at most 1.5", {"ours / empty tasks": recorded.median}, 1.5)
    table.result = f"from the trigger to the row, {whole} From the end of `train` to the row, {rest}"
    return table


def prepare(stack: Stack) -> None:
    progress("starting the stack …")
    stack.up(Steps.quiet())
    stack.api.wait_for_dag("migrate_schema")
    stack.api.wait_for_dag(TRAINING_DAG)
    run = stack.api.trigger("migrate_schema", {})
    wait_for_end(stack, "migrate_schema", run)
    with closing(psycopg.connect(stack.training_db_url, autocommit=True)) as connection:
        connection.execute(_TABLE)


def _train_ours(stack: Stack, job_id: str, timeline: Timeline) -> float:
    """Trigger a run; return the seconds until its row has both paths, and add its tasks to `timeline`."""
    api = stack.api
    with closing(psycopg.connect(stack.training_db_url, autocommit=True)) as connection:
        started, at = time.monotonic(), time.time()
        run = api.trigger(TRAINING_DAG, {**TRAINING, "epochs": EPOCHS, "job_id": job_id})
        wait_until(lambda: _is_recorded(connection, job_id), f"the row of {job_id}", PATIENCE_SECONDS)
        seconds = time.monotonic() - started
    wait_for_end(stack, TRAINING_DAG, run)
    _add_tasks(timeline, stack, TRAINING_DAG, run, at)
    return seconds


def _run_empty(stack: Stack, timeline: Timeline) -> None:
    at = time.time()
    run = stack.api.trigger(EMPTY_TASKS, {})
    wait_for_end(stack, EMPTY_TASKS, run)
    _add_tasks(timeline, stack, EMPTY_TASKS, run, at)


def _add_tasks(timeline: Timeline, stack: Stack, dag_id: str, run: str, at: float) -> None:
    """Add the tasks of a run that was triggered at `at`, in seconds since 1970."""
    for task in stack.api.list_task_instances(dag_id, run):
        start, end = (datetime.fromisoformat(task[name]).timestamp() for name in ("start_date", "end_date"))
        timeline.add(task["task_id"], start - at, end - at)


def wait_for_end(stack: Stack, dag_id: str, run: str) -> None:
    ended = {"success", "failed"}
    wait_until(lambda: stack.api.get_run_state(dag_id, run) in ended, f"the end of {run}", PATIENCE_SECONDS)


def _is_recorded(connection: Any, job_id: str) -> bool:
    row = connection.execute(
        "SELECT best_checkpoint_path IS NOT NULL AND last_checkpoint_path IS NOT NULL, status "
        "FROM training_jobs WHERE job_id = %s",
        [job_id],
    ).fetchone()
    if row is not None and row[1] == "failed":
        raise RuntimeError(f"Job {job_id} failed")
    return bool(row and row[0])


def _run_script(stack: Stack, data: Path, folder: Path) -> float:
    """Run the shell script, and return its seconds."""
    folder.mkdir()
    own: dict[str, Any] = {**TRAINING, "epochs": EPOCHS, "data": data, "project": folder}
    own |= {"model": f"{own['model']}.yaml", "name": "run", "exist_ok": True, "device": "cpu"}
    del own["dataset"]
    overrides = own.pop("overrides")
    arguments = own | overrides
    text = _SCRIPT.format(
        arguments=shlex.join(f"{name}={value}" for name, value in arguments.items()),
        folder=shlex.quote(str(folder)),
        bucket=DEFAULT_BUCKET,
        job=folder.name,
    )
    path = os.pathsep.join([sysconfig.get_path("scripts"), str(stack.postgres.programs), os.environ["PATH"]])
    own_names = ("AWS_", "S3_", "TRAINING_DB")
    access = {name: value for name, value in stack.env.items() if name.startswith(own_names)}
    environment = os.environ | access | {"PATH": path}
    started = time.monotonic()
    subprocess.run(["bash", "-c", text], check=True, env=environment, cwd=folder)
    return time.monotonic() - started


if __name__ == "__main__":
    main(measure)
