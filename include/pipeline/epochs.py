"""What happens at the end of each epoch: its numbers are recorded, and its state becomes durable."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING

from include.jobs.repository import JobRepository
from include.pipeline.connections import training_db

if TYPE_CHECKING:
    from pathlib import Path

    from include.checkpoints.publisher import BackgroundPublisher
    from include.training.contract import EpochReport

log = logging.getLogger(__name__)


class EpochRecorder:
    """Writes epochs to the database as they finish.

    A database that cannot be reached does not stop a training: the epochs wait and are written with a later
    one. What ends the training is OwnershipLost: another run or attempt owns the job now.
    """

    def __init__(self, job_id: str, run_id: str, attempt: int) -> None:
        self._job_id = job_id
        self._run_id = run_id
        self._attempt = attempt
        self._waiting: list[EpochReport] = []

    def record(self, epoch: EpochReport) -> None:
        """Write `epoch` and those that still wait."""
        self._waiting.append(epoch)
        self.flush()

    def flush(self) -> None:
        """Write the epochs that still wait."""
        from psycopg import OperationalError

        try:
            with training_db() as connection:
                jobs = JobRepository(connection)
                while self._waiting:
                    jobs.record_epoch(self._job_id, self._run_id, self._attempt, self._waiting[0])
                    del self._waiting[0]
        except OperationalError as error:
            log.warning(
                "The training database does not answer (%s); %d epochs wait, the training goes on.",
                str(error).strip(),
                len(self._waiting),
            )


class EpochEnd:
    """An EpochReporter: records every epoch, and publishes the state of every `publish_every`-th.

    The publisher gets a private copy of last.pt, because the trainer replaces the file an epoch later.
    """

    def __init__(
        self, recorder: EpochRecorder, publisher: BackgroundPublisher, run_folder: Path, publish_every: int
    ) -> None:
        self._recorder = recorder
        self._publisher = publisher
        self._last = run_folder / "weights" / "last.pt"
        self._publish_every = publish_every

    def report(self, epoch: EpochReport) -> bool:
        """Record `epoch`, and hand its state to the publisher."""
        self._recorder.record(epoch)
        if (epoch.epoch + 1) % self._publish_every == 0:
            snapshot = self._last.with_name(f"last-{epoch.epoch}.pt")
            shutil.copyfile(self._last, snapshot)
            self._publisher.publish(snapshot, epoch.epoch)
        return True
