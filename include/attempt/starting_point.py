"""Where an attempt of `train` starts: from its own newest state, from its parent's, or from scratch."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.attempt.found_state import FoundState, require_whole
from include.checkpoints.checkpoint import CHECKPOINT_KINDS, Checkpoint, name_position
from include.checkpoints.errors import CheckpointNotFound
from include.checkpoints.keys import BEST_EPOCH, EXACT
from include.deployment.retrying import treat_refusals_as_temporary
from include.s3.errors import CorruptObject
from include.training.contract import NotResumable, StateMismatch
from include.training.environment import isolate_ultralytics
from include.training.loading import hand_over, load_checkpoint, load_training_state

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from include.checkpoints.checkpoint import Position
    from include.checkpoints.store import CheckpointStore
    from include.checkpoints.stored import StoredCheckpoint
    from include.claim.resolved_job import ResolvedJob, ResumePoint
    from include.jobs.attempts import FinishedEpoch
    from include.s3.layout import StoredKind

log = logging.getLogger(__name__)

_GENERATIONS: tuple[StoredKind, ...] = ("last", "last.previous")

_ATTEMPT = "attempt"
"""Key in last.pt for the number of the attempt that took the state over; adding it changes the file's
SHA-256."""


@dataclass(frozen=True)
class StartingPoint:
    """The state that an attempt starts from."""

    last: Path | None = None
    """The file with the state; None to start from scratch."""
    best: Path | None = None
    """The best.pt that belongs to the state; None if there is none."""
    epoch: int = -1
    """Last finished epoch in the state, counted from 0; -1 if no epoch is finished."""
    batch: int = 0
    """Number of batches trained after `epoch`."""
    is_own: bool = False
    """Whether the state belongs to this training run and not to its parent."""
    trained_seconds: float = 0.0
    """How long this training run has trained so far, excluding its parent's time."""
    finished: tuple[FinishedEpoch, ...] = ()
    """Number, metrics and duration in seconds of each epoch that this training run has finished, as in
    results.csv; the epochs of its parent are not included."""


class Recovery:
    """Finds the starting point, locally or in S3, and takes the training run over from older attempts."""

    def __init__(
        self,
        job: ResolvedJob,
        identity: Mapping[str, object],
        attempt: int,
        store: CheckpointStore,
        inputs: Path,
        weights: Path,
    ) -> None:
        self._job, self._identity, self._attempt = job, identity, attempt
        self._store, self._inputs, self._weights = store, inputs, weights

    def find_starting_point(self, durable: Position | None) -> StartingPoint:
        """Return the state that this attempt starts from; take it over in S3 if this training run stored it.

        `durable` is the position of the newest state in S3, according to the job's row. Unless it is None, a
        state must be found: the attempt must not start from scratch.

        Raises CheckpointNotFound, CorruptObject and StateMismatch, which a retry cannot fix. Raises FencedOut
        if an older attempt wrote in the meantime; then call this again with a new store. If a state exists,
        a request that S3 refuses counts as a temporary failure (RefusedForNow).
        """
        with treat_refusals_as_temporary(
            lambda: durable is not None or (self._weights / "last.pt").is_file()
        ):
            for kind in CHECKPOINT_KINDS:  # lets the store replace these versions, but no newer ones
                self._store.head(self._job.job_id, kind)
            return self._find_starting_point(durable)

    def _find_starting_point(self, durable: Position | None) -> StartingPoint:
        own = self._find_newest(durable)
        if own is not None:
            best = self._find_best(own)
            self._take_over(own, best)
            log.info("Resuming after %s, from %s.", name_position(own.position), own.where)
            return StartingPoint(
                own.path,
                best,
                *own.position,
                is_own=True,
                trained_seconds=float(own.state[EXACT].get("trained_seconds", 0.0)),
                finished=own.list_finished_epochs(),
            )
        parent = self._job.resume
        if parent is not None and (durable is None or durable <= parent.last.position):
            return self._start_from_parent(parent)
        if durable is not None:
            raise CheckpointNotFound(
                f"Job {self._job.job_id} stored its state after {name_position(durable)}, but "
                f"{self._store.build_uri(self._job.job_id, 'last')} is gone: restore it, or set fresh=true "
                "to start over"
            )
        return StartingPoint()

    def _find_newest(self, durable: Position | None) -> FoundState | None:
        """Return the newer of the states on this machine and in S3; after an outage, S3 may be behind."""
        local = self._find_local()
        try:
            stored = self._find_stored(durable, local)
        except CorruptObject:
            if local is None:
                raise
            return local
        if local is None or (stored is not None and stored.position > local.position):
            return stored
        return replace(local, replaces=stored.replaces if stored else None)

    def _find_stored(self, durable: Position | None, local: FoundState | None) -> FoundState | None:
        """Return the state in this training run's last.pt or previous generation; None if neither has one.

        An object equal to the local state is not downloaded. The previous generation is used if last.pt is
        damaged or missing. It is also considered if last.pt is older than the row's durable position, because
        an old state may have overwritten a newer last.pt.
        """
        found: FoundState | None = None
        problem: Exception | None = None
        for kind, stored in self._list_own_generations(durable):
            try:
                candidate = self._fetch(kind, stored, local)
            except StateMismatch:
                raise
            except (CorruptObject, NotResumable) as error:
                log.warning("%s. Trying the previous generation.", error)
                problem = problem or error
                continue
            if found is None or candidate.position > found.position:
                found = candidate
            if durable is None or found.position >= durable:
                break
        if found is None and problem is not None:
            raise CorruptObject(
                f"{problem}. There is no undamaged previous generation either: restore last.pt or "
                "last.previous.pt from a backup, or set fresh=true to start over"
            ) from problem
        if found is not None and found.replaces is None:
            log.warning("Going back to %s, the state after %s.", found.where, name_position(found.position))
        return found

    def _list_own_generations(
        self, durable: Position | None
    ) -> Iterator[tuple[StoredKind, StoredCheckpoint]]:
        """Yield the states that this training run stored itself, excluding the copy of its parent's state."""
        parent = self._job.resume
        for kind in _GENERATIONS:
            stored = self._store.head(self._job.job_id, kind)
            if stored is None or stored.run_id != self._job.origin_run_id:
                continue
            if parent is None or not stored.is_the_same_as(parent.last):
                yield kind, stored
            elif durable is None or durable <= parent.last.position:
                return  # this training run has not stored anything yet

    def _fetch(self, kind: StoredKind, stored: StoredCheckpoint, local: FoundState | None) -> FoundState:
        replaces = stored.checkpoint if kind == "last" else None
        if local is not None and local.is_same_as(stored):
            return replace(local, replaces=replaces)
        target = self._inputs / f"{kind}.pt"
        self._store.download(self._job.job_id, kind, target)
        return FoundState(target, self._load(target), stored.uri, replaces)

    def _find_local(self) -> FoundState | None:
        """Return the state that an earlier attempt left on this machine; log why a file is ignored."""
        path = self._weights / "last.pt"
        if not path.is_file():
            return None
        try:
            require_whole(path)
            return FoundState(path, self._load(path), str(path))
        except NotResumable as error:
            log.info("Ignoring %s: %s.", path, error)
            return None

    def _load(self, path: Path) -> dict[str, Any]:
        from include.training.resume import require_identity

        state = load_training_state(path, self._job.spec.task)
        require_identity(state, self._identity, path)
        return state

    def _take_over(self, own: FoundState, best: Path | None) -> None:
        """Store the state again, marked with this attempt, so that S3 refuses writes by older attempts."""
        isolate_ultralytics()
        from ultralytics import __version__

        from include.training.saving import save, strip

        if best is not None and best.parent == self._weights and own.is_newer:
            deployable = self._inputs / "best.pt"
            epoch = strip(best, deployable)
            # best.pt first, as always: this last.pt may refer to a best.pt that was never uploaded.
            self._store.upload(Checkpoint.of_file(deployable, epoch), self._job.job_id, "best", __version__)
        own.state[EXACT][_ATTEMPT] = self._attempt
        save(own.state, own.path)
        hand_over(own.path, own.state)
        self._store.upload(
            Checkpoint.of_file(own.path, *own.position),
            self._job.job_id,
            "last",
            __version__,
            # A last.pt that holds the same state is not kept: it would replace an older last.previous.pt.
            keep_previous=own.replaces is not None and own.is_newer,
        )

    def _find_best(self, own: FoundState) -> Path | None:
        """Return the best.pt to which the state refers, if any, from the state's folder or from S3."""
        local = self._weights / "best.pt"
        if own.path.parent == self._weights and self._is_best_for(own, local):
            return local
        stored = self._store.head(self._job.job_id, "best")
        if stored is None or stored.run_id != self._job.origin_run_id:
            return None
        try:
            return Path(self._store.download(self._job.job_id, "best", self._inputs / "best.pt").path)
        except CorruptObject as error:
            log.warning("%s. The best epoch from now on becomes best.pt.", error)
            return None

    def _is_best_for(self, own: FoundState, path: Path) -> bool:
        """Return whether the file is undamaged and not older than the best epoch in the state."""
        if not path.is_file():
            return False
        try:
            require_whole(path)
            best = load_checkpoint(path)
        except NotResumable as error:
            log.info("Ignoring %s: %s.", path, error)
            return False
        epoch = best["epoch"] if best["epoch"] >= 0 else best.get(BEST_EPOCH, -1)
        return bool(epoch >= own.state[EXACT].get(BEST_EPOCH, -1))

    def _start_from_parent(self, parent: ResumePoint) -> StartingPoint:
        """Copy the parent's objects to this job's prefix, so that a crash loses nothing, and start from them.

        Raises CheckpointNotFound or CorruptObject if the parent no longer has the objects that
        `resolve_config` found.
        """
        job_id, best = self._job.job_id, None
        if parent.best is not None:
            # If an attempt was killed between storing its first best.pt and its first last.pt, `seed` keeps
            # that best.pt.
            seeded = self._store.seed(parent.job_id, job_id, "best", parent.best)
            best = self._store.download(job_id, "best", self._inputs / "best.pt", seeded.checkpoint)
        seeded = self._store.seed(parent.job_id, job_id, "last", parent.last)
        source = job_id if seeded.is_the_same_as(parent.last) else parent.job_id
        last = self._store.download(source, "last", self._inputs / "last.pt", parent.last)
        log.info(
            "Starting from the state of job %s after %s.", parent.job_id, name_position(parent.last.position)
        )
        return StartingPoint(Path(last.path), Path(best.path) if best else None, *parent.last.position)
