"""Writes the states of a training run in a background thread, and announces each one once it is in place."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from include.training.contract import DiskError
from include.training.library_errors import format_error
from include.training.saving import link_or_copy, put_in_place, save, strip_state, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.training.contract import SavedState

log = logging.getLogger(__name__)


def locate_epoch_end(last: Path) -> Path:
    """Return the path of the state at the end of the last finished epoch.

    It is kept while last.pt holds a state within the next epoch. If that epoch is repeated, it starts from
    the state at this path.
    """
    return last.with_name("epoch-end.pt")


@dataclass(frozen=True)
class _Job:
    state: dict[str, Any]
    """A copy that nothing else changes; it is complete once `wait` returns."""
    wait: Callable[[], None]
    """Waits until the GPU has copied all tensors of `state`."""
    saved: SavedState
    """What is announced once last.pt is in place."""
    becomes_best: bool
    """Whether to write best.pt as well."""


class StateWriter:
    """Writes one state at a time, and calls `on_saved` for each before a newer state replaces last.pt.

    An error in the background is raised by the next `check` or `flush`, in the training thread. Use the
    writer as a context manager: on exit, it finishes writing, even after an error in training.
    """

    def __init__(
        self,
        last: Path,
        best: Path,
        on_saved: Callable[[SavedState], object],
        *,
        last_is_within_epoch: bool = False,
    ) -> None:
        self._last, self._best, self._on_saved = last, best, on_saved
        self.last_is_within_epoch = last_is_within_epoch
        """Whether last.pt holds a state within an epoch, not one at an epoch's end."""
        self._changed = threading.Condition()  # guards everything below
        self._job: _Job | None = None
        self._error: BaseException | None = None
        self._has_ended = False
        self._thread = threading.Thread(target=self._run, name="states", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()
        self._thread.join()
        if kind is None:
            self.check()
        elif self._error is not None:
            log.warning("The newest state could not be saved: %s", format_error(self._error))

    @property
    def is_busy(self) -> bool:
        """Whether a state is being written."""
        return self._job is not None

    def check(self) -> None:
        """Raise the error of the background thread, if there is one."""
        if self._error is not None:
            raise self._error

    def write(
        self, state: dict[str, Any], wait: Callable[[], None], saved: SavedState, *, becomes_best: bool
    ) -> None:
        """Write `state`, a copy that is complete once `wait` returns, in the background.

        Call this only if no other state is being written.
        """
        with self._changed:
            self._job = _Job(state, wait, saved, becomes_best)
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until the state that is being written is in place and announced."""
        with self._changed:
            self._changed.wait_for(lambda: self._job is None)
        self.check()

    def _run(self) -> None:
        while (job := self._wait_for_job()) is not None:
            try:
                self._save(job)
            except BaseException as error:
                self._error = error
            with self._changed:
                self._job = None
                self._changed.notify_all()

    def _wait_for_job(self) -> _Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._job is not None or self._has_ended)
            return self._job

    def _save(self, job: _Job) -> None:
        job.wait()
        staged = write(job.state, self._last)
        epoch_end = locate_epoch_end(self._last)
        saved = job.saved
        if job.becomes_best and not self._write_best(job.state, staged):
            saved = replace(saved, is_best=False)
        if saved.batch and not self.last_is_within_epoch and self._last.exists():
            link_or_copy(self._last, epoch_end)
        put_in_place(staged, self._last)
        self.last_is_within_epoch = bool(saved.batch)
        if not saved.batch:
            epoch_end.unlink(missing_ok=True)
        self._on_saved(saved)

    def _write_best(self, state: dict[str, Any], whole: Path) -> bool:
        """Write best.pt, before last.pt refers to it; return whether best.pt is ready to deploy.

        If the disk is full, best.pt becomes a hard link to the complete state, because a link takes no space.
        At the end of training, the stripped model replaces it.
        """
        try:
            save(strip_state(state), self._best)
        except DiskError as error:
            log.warning("best.pt is not uploaded until training ends or a later epoch is better: %s", error)
            link_or_copy(whole, self._best)
            return False
        return True
