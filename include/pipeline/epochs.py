"""Live progress: each finished epoch becomes one row of training_epochs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from include.jobs.repository import JobRepository
from include.pipeline.connections import training_db

if TYPE_CHECKING:
    from include.training.contract import EpochReport

log = logging.getLogger(__name__)


class EpochRecorder:
    """Writes epochs to the database as they finish (an EpochReporter).

    A database that cannot be reached does not stop a training: the epochs wait and are written with a later
    one. What ends the training is OwnershipLost: another run owns the job now.
    """

    def __init__(self, job_id: str, run_id: str) -> None:
        self._job_id = job_id
        self._run_id = run_id
        self._waiting: list[EpochReport] = []

    def report(self, epoch: EpochReport) -> None:
        """Record `epoch` and those that still wait."""
        from psycopg import OperationalError

        self._waiting.append(epoch)
        try:
            with training_db() as connection:
                jobs = JobRepository(connection)
                while self._waiting:
                    jobs.record_epoch(self._job_id, self._run_id, self._waiting[0])
                    del self._waiting[0]
        except OperationalError as error:
            log.warning(
                "The training database does not answer (%s); %d epochs wait to be recorded, the training "
                "goes on.",
                str(error).strip(),
                len(self._waiting),
            )
