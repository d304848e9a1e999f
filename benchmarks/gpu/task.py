"""Run the task `train` under a real scheduler, with CUDA in a process that Airflow has forked."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.step import Skipped, Step

if TYPE_CHECKING:
    from benchmarks.gpu.place import Place
    from include.stack.local import Stack


def _measure(place: Place) -> Iterator[Sequence[Any]]:
    if find_spec("airflow") is None:
        raise Skipped("Airflow is not installed here")
    if place.quick and place.stack is None:
        raise Skipped("it starts Airflow, which takes a minute: name a running stack with --stack")
    from tests.support.airflow_client import Airflow
    from tests.support.scheduled_trainings import Training, small_job

    with _running_stack(place) as stack:
        api = Airflow(stack)
        api.run("migrate_schema", {})
        job = small_job(stack, place.folder, 14 if place.quick else 30)
        training = Training(api, stack, job | {"job_id": place.folder.name.lower(), "device": place.device})
        training.reaches(2)
        signalled = time.monotonic()
        training.kill("in mid-epoch", training.process(), how=signal.SIGTERM)
        yield "from SIGTERM to the end of the process, s", time.monotonic() - signalled
        training.reaches(training.recorded + 1)
        yield "from SIGTERM to the next recorded epoch, s", time.monotonic() - signalled
        row = training.ends(place.seconds_left)
        yield "epochs that were trained twice", training.repeated_epochs()
        yield "status of the job", row["status"]


@contextmanager
def _running_stack(place: Place) -> Iterator[Stack]:
    """Yield the stack that the command names, or start one that is stopped when the context ends."""
    from benchmarks.place import stopping
    from include.stack.local import Stack
    from include.stack.steps import Steps

    if place.stack is not None:
        yield Stack.at(place.stack)
        return
    folder = place.own("stack")
    for above in (folder, place.folder):
        above.chmod(0o711)  # PostgreSQL runs as another user if this process is root
    with stopping(Stack.at(folder)) as stack:
        stack.up(Steps.quiet())
        yield stack


STEP = Step(
    "the task",
    "`train_yolo` runs under the local stack's scheduler, which forks the process of `train`. That process "
    "gets SIGTERM in mid-epoch, and Airflow starts the next attempt.",
    ("what", "found"),
    _measure,
    seconds=240,
    trains_elsewhere=True,
)
