"""Makes snapshots durable while the training goes on."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

from include.checkpoints.checkpoint import Checkpoint
from include.checkpoints.errors import FencedOut, StoreError

if TYPE_CHECKING:
    from types import TracebackType

    from include.checkpoints.store import CheckpointStore

log = logging.getLogger(__name__)


class BackgroundPublisher:
    """Uploads snapshots of last.pt in a thread of its own: one at a time, and the newest wins.

    A snapshot that could not be stored is given up with a warning, for a newer one follows. What is promised:
    the training never waits for S3, and after `close` nothing more is written. What is not: that every
    snapshot becomes durable; the final files are the business of the upload tasks.
    """

    def __init__(self, store: CheckpointStore, job_id: str, ultralytics_version: str) -> None:
        self._store = store
        self._job_id = job_id
        self._version = ultralytics_version
        self._changed = threading.Condition()
        self._next: tuple[Path, int] | None = None
        self._closed = False
        self._fenced: FencedOut | None = None
        self._thread = threading.Thread(target=self._run, name=f"publish-{job_id}", daemon=True)
        self._thread.start()

    def publish(self, snapshot: Path, epoch: int) -> None:
        """Take the file away and delete it afterwards. Raises FencedOut once another attempt owns the job."""
        if self._fenced is not None:
            raise self._fenced
        with self._changed:
            overtaken, self._next = self._next, (snapshot, epoch)
            self._changed.notify()
        if overtaken is not None:
            overtaken[0].unlink(missing_ok=True)
            log.info("Epoch %d is overtaken by epoch %d before it was stored.", overtaken[1] + 1, epoch + 1)

    def close(self) -> None:
        """Store what still waits, then write nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        while (snapshot := self._take()) is not None:
            path, epoch = snapshot
            try:
                self._store.upload(Checkpoint.of_file(path, epoch), self._job_id, "last", self._version)
            except FencedOut as error:
                self._fenced = error
                return
            except (StoreError, OSError) as error:
                log.warning("Epoch %d is not durable: %s. The training goes on.", epoch + 1, error)
            finally:
                path.unlink(missing_ok=True)

    def _take(self) -> tuple[Path, int] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._next is not None or self._closed)
            snapshot, self._next = self._next, None
            return snapshot
