"""Stores snapshots of a training run in S3 while training continues."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from include.checkpoints.checkpoint import Checkpoint, name_position
from include.checkpoints.lag import Lag
from include.checkpoints.snapshot import PendingSnapshots, PublishLimits
from include.s3.deadline import Deadline, StallDeadline
from include.s3.errors import FencedOut, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.checkpoints.checkpoint import CheckpointKind, Position
    from include.checkpoints.snapshot import Snapshot
    from include.checkpoints.store import CheckpointStore

log = logging.getLogger(__name__)

_PARTING_SECONDS = 1.0
"""How long to wait for an aborted upload to end."""


class BackgroundPublisher:
    """Stores snapshots in a background thread: best.pt if it improved, then the last.pt that refers to it.

    There is one upload at a time. A newer snapshot replaces a waiting one. If the newer one has no best.pt,
    the waiting best.pt is kept. So at most two copies of each file exist. A failed upload is retried until a
    newer state replaces it. But if S3 already holds parts of an upload, that upload is finished first.
    Otherwise, no upload would ever finish over a slow link. Training never waits for S3, and never fails
    because of it. Once another attempt owns the job, `publish` and `close` raise FencedOut.

    The thread calls `on_durable` with the epoch and the batch of each last.pt that it has verified in S3. It
    logs the exceptions of this call. `durable` is the position of the newest state that is already in S3.

    At the end of a `with` block, the pending snapshot is stored: within `drain_seconds`, or within
    `grace_seconds` if the block ends with an exception.
    """

    def __init__(
        self,
        store: CheckpointStore,
        job_id: str,
        ultralytics_version: str,
        on_durable: Callable[[int, int], None],
        limits: PublishLimits | None = None,
        *,
        durable: Position | None = None,
        drain_seconds: float = 600.0,
        grace_seconds: float = 20.0,
    ) -> None:
        self._store, self._job_id, self._version = store, job_id, ultralytics_version
        self._on_durable = on_durable
        self._limits = limits or PublishLimits()
        self._drain_seconds, self._grace_seconds = drain_seconds, grace_seconds
        self._changed = threading.Condition()  # guards everything below
        self._waiting: PendingSnapshots | None = None
        self._in_hand: PendingSnapshots | None = None
        self._broken_off: PendingSnapshots | None = None
        self._files: set[Path] = set()
        self._is_due = self._is_closing = self._is_abandoned = False
        self._not_before = 0.0
        self._pause = self._limits.first_pause
        self._lag = Lag(self._limits.lag_epochs, self._limits.lag_seconds, durable)
        self._deadline: Deadline = Deadline(0)
        self.durable = durable
        """Position of the newest stored state; None before the first."""
        self._fenced: FencedOut | None = None
        self._thread = threading.Thread(target=self._run, name=f"publish-{job_id}", daemon=True)
        self._thread.start()

    def publish(self, snapshot: Snapshot) -> None:
        """Queue the snapshot and return immediately; its files are deleted when they are no longer needed.

        Raises FencedOut once another attempt owns the job.
        """
        with self._changed:
            self._files |= PendingSnapshots.of(snapshot).files
            if not self._is_abandoned:
                self._waiting = PendingSnapshots.of(snapshot).replace_older(self._waiting)
                at_epoch = (snapshot.epoch + 1) % self._limits.every_epochs == 0
                self._is_due = self._is_due or snapshot.batch > 0 or at_epoch
                self._lag.look(snapshot.position, time.monotonic())
            self._delete_unused()
            self._changed.notify()
        if self._fenced is not None:
            raise self._fenced

    def close(self, drain_seconds: float | None = None) -> None:
        """Store the newest snapshot within `drain_seconds`, then stop writing.

        The default is the value given to the constructor. An upload that is still running after that time is
        aborted. The attribute `durable` then says which state is the newest in S3. If an exception such as
        Preempted interrupts the wait, the upload gets `grace_seconds` more, and then the exception is raised.
        Raises FencedOut.
        """
        with self._changed:
            self._is_closing = True
            self._not_before, self._pause = 0.0, self._limits.first_pause
            self._changed.notify()
            seconds = self._drain_seconds if drain_seconds is None else drain_seconds
            is_hopeless = self._is_abandoned
        try:
            self._thread.join(0.0 if is_hopeless else seconds)
        except BaseException:
            self._thread.join(0.0 if is_hopeless else self._grace_seconds)
            raise
        finally:
            self._end()
        if self._fenced is not None:
            raise self._fenced

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            with suppress(FencedOut):  # already logged; the error that ended the block must be raised instead
                self.close(self._grace_seconds)

    def _end(self) -> None:
        with self._changed:
            if newest := self._waiting or self._in_hand or self._broken_off:
                words = name_position(newest.last.position)
                log.warning("The state after %s is not in S3: its upload did not finish in time.", words)
            self._abandon()
        self._thread.join(_PARTING_SECONDS)

    def _run(self) -> None:
        while (work := self._take_next_work()) is not None:
            try:
                for file in work.uploads:
                    self._upload(*file)
            except FencedOut as error:
                self._stop(error)
            except Exception as error:  # whatever the error is, later states must still become durable
                self._try_later(work, error)
            else:
                self._finish(work.last.position)

    def _take_next_work(self) -> PendingSnapshots | None:
        """Wait until a state is due to be stored, and return it; None if no more will follow."""
        with self._changed:
            while not self._is_abandoned:
                wanted = self._broken_off or (self._waiting if self._is_due or self._is_closing else None)
                if wanted is None and self._is_closing:
                    return None
                now = time.monotonic()
                if wanted is not None and now >= self._not_before:
                    self._take(wanted, now)
                    return wanted
                self._changed.wait(None if wanted is None else self._not_before - now)
            return None

    def _take(self, work: PendingSnapshots, now: float) -> None:
        if work is self._broken_off:
            self._broken_off = None
        else:
            self._waiting, self._is_due = None, False
        self._in_hand = work
        self._lag.record_try(work.last.position, now)

    def _upload(self, path: Path, kind: CheckpointKind, position: Position) -> None:
        with self._changed:
            limits = self._limits
            deadline = self._deadline = StallDeadline(limits.stalled_seconds, limits.least_bytes)
            if self._is_abandoned:
                deadline.end_now()
        checkpoint = Checkpoint.of_file(path, *position)
        self._store.upload(checkpoint, self._job_id, kind, self._version, deadline=deadline, keep_parts=True)

    def _finish(self, position: Position) -> None:
        """Record that the state is durable."""
        with self._changed:
            self.durable = position
            self._lag.record_durable(position)
            self._in_hand = None
            self._pause = self._limits.first_pause
            self._delete_unused()
        try:
            self._on_durable(*position)
        except Exception:
            words = name_position(position)
            log.warning(
                "The state after %s is in S3, but this could not be recorded in the job's row.",
                words,
                exc_info=True,
            )

    def _try_later(self, work: PendingSnapshots, error: Exception) -> None:
        with self._changed:
            if self._is_abandoned:
                return
            if missing := [file for file in work.files if _is_gone(file)]:
                log.error(
                    "The state after %s cannot be uploaded: %s is gone.",
                    name_position(work.last.position),
                    missing[0],
                )
                self._in_hand = None
                return
            now, pause = time.monotonic(), self._pause
            if self._store.keeps_parts(self._job_id):
                self._broken_off = work
            else:
                self._waiting = self._waiting.replace_older(work) if self._waiting else work
                self._is_due = True
            self._in_hand = None
            self._not_before = now + pause
            self._pause = min(2 * pause, self._limits.longest_pause)
            self._lag.look((self._waiting or work).last.position, now)
            self._delete_unused()
        unexpected = None if isinstance(error, StoreError) else error
        log.warning(
            "The state after %s is not in S3 yet: %s. Retrying in %.0f s; if a newer state has been saved by "
            "then, that state may be uploaded instead.",
            *(name_position(work.last.position), repr(error) if unexpected else error, pause),
            exc_info=unexpected,
        )

    def _stop(self, error: FencedOut) -> None:
        log.error("Publishing stopped: %s.", error)
        with self._changed:
            self._fenced = error
            self._abandon()

    def _abandon(self) -> None:
        self._is_abandoned = True
        self._waiting = self._in_hand = self._broken_off = None
        self._deadline.end_now()
        self._delete_unused()
        self._changed.notify()

    def _delete_unused(self) -> None:
        work = [each for each in (self._waiting, self._in_hand, self._broken_off) if each]
        used = {file for each in work for file in each.files}
        for file in self._files - used:
            with suppress(OSError):  # the next call tries again; training must not wait or fail
                file.unlink(missing_ok=True)
                self._files.remove(file)


def _is_gone(file: Path) -> bool:
    """Return whether the file is known not to exist; False if it cannot be examined."""
    try:
        file.stat()
    except OSError as error:
        return isinstance(error, FileNotFoundError | NotADirectoryError)
    return False
