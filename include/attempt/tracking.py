"""Mirrors a job in MLflow if MLFLOW_TRACKING_URI is set, without delaying training.

The values are read from Postgres, so nothing has to be kept in memory while MLflow is unavailable. All
missing values are sent after the next epoch, by another attempt, or by the last task.
"""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from include.database import Statements
from include.deployment.retrying import list_database_errors
from include.deployment.tracking import find_tracking_server
from include.jobs.recorded_checkpoint import build_checkpoint_columns
from include.jobs.repository import JobRepository
from include.tracking.errors import TrackingError, TrackingUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from include.attempt.manifest import TrainingManifest
    from include.checkpoints.store import CheckpointStore
    from include.database import OpenDatabase
    from include.jobs.job import TrainingJob
    from include.tracking.mirror import JobMirror
    from include.tracking.server import TrackingServer

    RowUpdate = Callable[[TrainingJob], TrainingJob]

log = logging.getLogger(__name__)

_RETRY_SECONDS = 30.0
"""A failed request is retried when the next epoch ends, or after this time."""

_LAST_SECONDS = 10.0
"""How long a task waits for MLflow: `train` at its end, and each task that calls `track_recorded`."""


def track_recorded(job_id: str, open_database: OpenDatabase) -> None:
    """Send the job's row and epochs to MLflow while no attempt trains. Takes up to 10 s, and never raises."""
    with Tracker(find_tracking_server(), job_id, None, open_database) as tracker:
        tracker.end()


def predict_final_row(manifest: TrainingManifest, store: CheckpointStore) -> RowUpdate:
    """Return a function that copies a row and adds the values that `record_checkpoints` will write."""
    values: dict[str, object] = {
        "status": manifest.status,
        "epoch": manifest.epoch if manifest.epoch >= 0 else None,
        "epoch_batch": manifest.last.batch,
        "durable_batch": manifest.last.batch,
        "metrics": manifest.metrics,
        "error": None,
    }
    for checkpoint, kind in manifest.list_checkpoints():
        stored = replace(checkpoint, path=store.build_uri(manifest.job_id, kind))
        values |= build_checkpoint_columns(kind, stored)
    return lambda row: row.model_copy(update=values)


class Tracker:
    """Keeps a training run in MLflow up to date with the job's row, using a separate thread.

    It sends nothing if there is no server, or if the job's row belongs to a training run other than
    `origin_run_id` (None accepts any). `notify` returns immediately. `end` waits for up to 10 seconds. If an
    Exception ends the block (Preempted is not one), `__exit__` waits as long: a pending request must not
    arrive after those of a later attempt. No method raises.
    """

    def __init__(
        self,
        server: TrackingServer | None,
        job_id: str,
        origin_run_id: str | None,
        open_database: OpenDatabase,
    ) -> None:
        self._server, self._open = server, open_database
        self._job_id, self._origin_run_id = job_id, origin_run_id
        self._sent = -1
        self._problem: str | None = None
        self._final: RowUpdate | None = None
        self._news, self._closed = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._server is not None:
            # Imported here, not in the thread: the process must not fork in the middle of an import.
            from include.tracking.mirror import JobMirror

            mirror = JobMirror(self._server, self._lock)
            # A daemon thread, so that it ends with the process even if MLflow hangs.
            self._thread = threading.Thread(
                target=self._run, args=(mirror, self._server.name), name="mlflow", daemon=True
            )
            self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._closed.set()
        self._news.set()
        if self._thread is not None and isinstance(error, Exception):  # if preempted, do not wait
            self._thread.join(_LAST_SECONDS)

    def notify(self) -> None:
        """Make the thread send all values that are new in the database."""
        self._news.set()

    def end(self, update: RowUpdate = lambda row: row) -> None:
        """Send all missing values; `update` adds to the row the values that later tasks will record."""
        if self._server is None or self._thread is None:
            return
        self._final = update
        self._news.set()
        self._thread.join(_LAST_SECONDS)
        if self._problem is not None or self._thread.is_alive():
            log.warning(
                "MLflow at %s %s. The task notify_backend sends the missing values of job %s; if that fails, "
                "clear that task once MLflow is available again.",
                self._server.name,
                self._problem or "is too slow",
                self._job_id,
            )

    def _run(self, mirror: JobMirror, server: str) -> None:
        while not self._closed.is_set():
            self._news.clear()
            final = self._final
            problem = self._try(mirror, final)
            self._log_change(problem, server)
            self._problem = problem
            if final is not None:
                return
            self._news.wait(None if problem is None else _RETRY_SECONDS)

    def _log_change(self, problem: str | None, server: str) -> None:
        """Log the first of several consecutive failures, and the recovery; `end` logs the last failure."""
        if problem is not None and self._problem is None and self._final is None:
            log.warning(
                "MLflow at %s %s. Training continues; the missing values are sent when MLflow responds.",
                server,
                problem,
            )
        elif problem is None and self._problem is not None:
            log.info("MLflow at %s is up to date again.", server)

    def _try(self, mirror: JobMirror, final: RowUpdate | None) -> str | None:
        """Send all new values; return the problem, if any. The call after a failure repeats all epochs."""
        try:
            self._send(mirror, final)
        except TrackingError as error:
            problem = str(error)
        except list_database_errors():
            problem = "gets no updates while the training database does not respond"
        except Exception as error:  # training does not depend on MLflow
            log.log(
                logging.WARNING if self._problem is None else logging.DEBUG,
                "Tracking of job %s failed.",
                self._job_id,
                exc_info=True,
            )
            problem = f"could not be updated ({type(error).__name__})"
        else:
            return None
        self._sent = -1
        return problem

    def _send(self, mirror: JobMirror, final: RowUpdate | None) -> None:
        with self._open() as connection:
            jobs = JobRepository(connection)
            row, epochs = jobs.get(self._job_id), jobs.list_epochs(self._job_id, after=self._sent)
        if row is None or self._origin_run_id not in {None, row.origin_run_id}:
            return
        mirror.send(final(row) if final else row, epochs)
        if epochs:
            self._sent = epochs[-1].epoch

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold a lock, so that concurrent attempts do not create two MLflow runs for the job.

        Raises TrackingUnavailable if another attempt holds it.
        """
        with self._open() as connection, connection.transaction():
            if not Statements(connection).fetch_one("try_lock_tracking", job_id=self._job_id).locked:
                raise TrackingUnavailable("is being updated by another attempt at this job")
            yield
