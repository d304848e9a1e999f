"""From what a user typed to a job that may run: checked, defaulted, and owned by this run."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from include.checkpoints.checkpoint import in_words
from include.jobs.job import JobStatus
from include.jobs.spec import SpecError, TrainingSpec
from include.pipeline.patience import may_pass
from include.pipeline.payloads import ResolvedJob, ResumePoint
from include.refusals import shown
from include.weights.initial import InitialWeights

if TYPE_CHECKING:
    from include.checkpoints.store import CheckpointStore
    from include.checkpoints.stored import StoredCheckpoint
    from include.jobs.job import TrainingJob
    from include.jobs.repository import JobRepository
    from include.weights.initial import InitialWeightsFinder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunIdentity:
    """The Dag run that asks: the owner of the job from now on. queued_at is when it came, where known."""

    dag_id: str
    run_id: str
    created_at: datetime
    triggered_by: str | None
    queued_at: datetime | None = None


def resolve(
    params: Mapping[str, Any],
    run: RunIdentity,
    jobs: JobRepository,
    checkpoints: CheckpointStore,
    is_running: Callable[[str, str], bool],
    finder: InitialWeightsFinder,
) -> ResolvedJob:
    """Check `params`, and take over or create the job's row for `run`.

    is_running tells of a (dag_id, run_id) whether Airflow still runs it. Raises SpecError for what cannot be
    trained, RepositoryError for a row that cannot be had, StoreError for S3; a row that waits for its first
    run then says why, and any other stays as it is.
    """
    with reason_in_waiting_row(params.get("job_id"), jobs):
        spec = TrainingSpec.parse(dict(params))
        job_id = spec.job_id or _generated_job_id(spec, run)
        row = jobs.get(job_id)
        if row is not None:
            _refuse_unless_free(row, run, spec, is_running)
        recreated = row is not None and _was_recreated(row, run)
        own = None if row is None else _own_state(row, spec, run, checkpoints, recreated=recreated)
        if own is None and not spec.fresh and (row is None or row.origin_run_id is None):
            _refuse_orphaned_state(job_id, checkpoints)
        if row is not None and own is not None:
            spec, resume = _going_on(spec, row), _own_seed(row, own, checkpoints)
            resumed_epoch, weights = row.resumed_epoch, _began_with(row)
        else:
            spec, resume, weights = _beginning(spec, job_id, jobs, checkpoints, is_running, finder)
            resumed_epoch = resume.epoch if resume else None
        job = jobs.claim(
            job_id,
            dag_id=run.dag_id,
            run_id=run.run_id,
            spec=spec.model_dump(mode="json", exclude={"job_id"}),
            epochs=spec.epochs,
            parent_job_id=spec.resume_from or (weights.job_id if weights else None),
            resumed_epoch=resumed_epoch,
            triggered_by=run.triggered_by,
            fresh=own is None,
            expected_run_id=row.run_id if row else None,
            origin_run_id=f"{run.run_id[:200]} of {run.created_at:%Y-%m-%dT%H:%M:%SZ}"
            if recreated
            else run.run_id,
            recreated=recreated,
            initial_weights_path=weights.path if weights else None,
            initial_weights_sha256=weights.sha256 if weights else None,
            queued_at=run.queued_at,
        )
    if resume is not None:
        jobs.copy_epochs(resume.job_id, job_id, resume.epoch)
    return ResolvedJob(
        job_id=job_id,
        dag_id=run.dag_id,
        run_id=run.run_id,
        origin_run_id=job.origin_run_id or run.run_id,
        spec=spec,
        resume=resume,
        weights=weights,
    )


def has_own_state(params: Mapping[str, Any], run: RunIdentity, jobs: JobRepository) -> bool:
    """Whether the job that `params` ask for has stored a state, so that it must not be given up lightly."""
    try:
        spec = TrainingSpec.parse(dict(params))
    except SpecError:
        return False
    row = jobs.get(spec.job_id or _generated_job_id(spec, run))
    return row is not None and row.has_own_state


@contextmanager
def reason_in_waiting_row(job_id: object, jobs: JobRepository) -> Iterator[None]:
    """Write into a row that waits for its first run why it will not get one."""
    try:
        yield
    except Exception as error:
        # After an outage this task is retried, so the row stays queued.
        if isinstance(job_id, str) and not may_pass(error) and jobs.refuse(job_id, str(error)):
            log.info("Wrote the reason into the waiting row of job %s.", job_id)
        raise


def _beginning(
    spec: TrainingSpec,
    job_id: str,
    jobs: JobRepository,
    checkpoints: CheckpointStore,
    is_running: Callable[[str, str], bool],
    finder: InitialWeightsFinder,
) -> tuple[TrainingSpec, ResumePoint | None, InitialWeights | None]:
    """What a training begins with: its parameters, its parent's state or none, and its weights.

    What was not given is taken from the parent, or is the default.
    """
    if spec.resume_from is None:
        spec = spec.with_defaults()
        return spec, None, finder.find(spec.model or "", spec.task or "", job_id)
    parent = _parent(spec.resume_from, jobs, is_running)
    resume = _resume_point(parent, checkpoints)
    spec = spec.continuing(_spec_of(parent))
    _refuse_finished(spec, parent, resume)
    return spec.with_defaults(), resume, _began_with(parent)


def _began_with(row: TrainingJob) -> InitialWeights | None:
    """The weights that a training was begun with, as its row has them."""
    if row.initial_weights_path is None or row.initial_weights_sha256 is None:
        return None
    fine_tuned = row.parent_job_id if row.resumed_epoch is None else None
    return InitialWeights(path=row.initial_weights_path, sha256=row.initial_weights_sha256, job_id=fine_tuned)


def _generated_job_id(spec: TrainingSpec, run: RunIdentity) -> str:
    """A readable name that stays the same when the task is retried or cleared."""
    digest = hashlib.sha256(f"{run.dag_id}/{run.run_id}".encode()).hexdigest()[:6]
    return f"{spec.task or 'detect'}-{run.created_at:%Y%m%d-%H%M%S}-{digest}"


def _refuse_unless_free(
    row: TrainingJob, run: RunIdentity, spec: TrainingSpec, is_running: Callable[[str, str], bool]
) -> None:
    if (row.dag_id, row.run_id) == (run.dag_id, run.run_id):
        return
    if row.status == "completed" and not spec.fresh:
        raise SpecError(
            f"job_id={row.job_id!r} is completed already; give another job_id, or fresh=true to train it "
            f"again from the start, or a new job with resume_from={row.job_id!r} to train it longer"
        )
    if _owner_runs(row, is_running):
        raise SpecError(
            f"job_id={row.job_id!r} {_doing(row)} in run {row.run_id} of {row.dag_id}; wait for it, or give "
            "another job_id"
        )


def _doing(row: TrainingJob) -> str:
    return "waits for a GPU" if row.status == JobStatus.QUEUED else "is being trained"


def _was_recreated(row: TrainingJob, run: RunIdentity) -> bool:
    """Whether the row's run was deleted and this is a new run with the same id."""
    same = (row.dag_id, row.run_id) == (run.dag_id, run.run_id)
    return same and row.updated_at is not None and row.updated_at < run.created_at


def _refuse_orphaned_state(job_id: str, checkpoints: CheckpointStore) -> None:
    """Refuse to start from zero, silently, a training whose row was deleted but whose state is in S3."""
    stored = checkpoints.head(job_id, "last")
    if stored is not None and stored.checkpoint is not None and stored.run_id is not None:
        raise SpecError(
            f"job_id={job_id!r} has no training in training_jobs, but {stored.uri} holds its state after "
            f"{in_words(stored.checkpoint.position)}: its row was deleted. Restore the row to resume, give "
            "fresh=true to start over, or choose another job_id"
        )


def _owner_runs(row: TrainingJob, is_running: Callable[[str, str], bool]) -> bool:
    """The column does not tell: a killed run leaves `running` behind, a cleared one begins at `failed`."""
    if row.status == "completed" or row.dag_id is None or row.run_id is None:
        return False
    return is_running(row.dag_id, row.run_id)


def _own_state(
    row: TrainingJob,
    spec: TrainingSpec,
    run: RunIdentity,
    checkpoints: CheckpointStore,
    *,
    recreated: bool,
) -> StoredCheckpoint | None:
    """What the row's training has stored and this run is to go on from; None if it begins anew.

    Raises SpecError where a state was stored and is gone: starting over is said, not silent.
    """
    if row.origin_run_id is None or (spec.fresh and (recreated or row.run_id != run.run_id)):
        return None
    for kind in ("last", "last.previous"):
        stored = checkpoints.head(row.job_id, kind)
        if stored is not None and stored.checkpoint is not None and stored.run_id == row.origin_run_id:
            return stored
    if row.durable is not None and row.run_id != run.run_id:
        expired = row.last_checkpoint_expired_at
        gone = f"expired by the retention policy on {expired:%Y-%m-%d}" if expired else "is gone"
        raise SpecError(
            f"job_id={row.job_id!r} had stored its state after "
            f"{in_words(row.durable)}, but "
            f"{checkpoints.uri(row.job_id, 'last')} {gone}; restore it, or give fresh=true to start over"
        )
    return None


def _own_seed(row: TrainingJob, own: StoredCheckpoint, checkpoints: CheckpointStore) -> ResumePoint | None:
    """The parent's state in the job's own prefix, if the job has stored none of its own.

    So it does not matter what has become of the parent meanwhile.
    """
    # Earlier versions did not write down that an object is a seed; their states were of an epoch's end.
    if own.checkpoint is None or not (own.seeded_from or own.checkpoint.position == (row.resumed_epoch, 0)):
        return None
    best = checkpoints.head(row.job_id, "best")
    belongs = best is not None and best.run_id == row.origin_run_id
    return ResumePoint(
        job_id=row.job_id, last=own.checkpoint, best=best.checkpoint if best and belongs else None
    )


def _going_on(spec: TrainingSpec, row: TrainingJob) -> TrainingSpec:
    """The spec of a job that goes on. Raises SpecError, naming what differs from what it began with."""
    begun = TrainingSpec.stored(dict(row.spec or {}))
    if spec.resume_from is not None and spec.resume_from == row.parent_job_id:
        spec = spec.continuing(begun)
    spec = spec.as_begun(begun).with_defaults()
    before, now = begun.identity(), spec.identity()
    different = [name for name in dict.fromkeys([*before, *now]) if before.get(name) != now.get(name)]
    if different:
        what = "; ".join(
            f"{name}={_given(now.get(name))} instead of {_given(before.get(name))}" for name in different
        )
        raise SpecError(
            f"job_id={row.job_id!r} was interrupted and would go on, but with other parameters: {what}. Give "
            "the same ones, or fresh=true to start over, or another job_id"
        )
    return spec


def _given(value: object) -> str:
    return "not given" if value is None else shown(value)


def _parent(parent_job_id: str, jobs: JobRepository, is_running: Callable[[str, str], bool]) -> TrainingJob:
    parent = jobs.get(parent_job_id)
    if parent is None:
        raise SpecError(
            f"resume_from={parent_job_id!r} does not exist in training_jobs; give the id of an earlier job"
        )
    if _owner_runs(parent, is_running):
        raise SpecError(
            f"resume_from={parent_job_id!r} {_doing(parent)} in run {parent.run_id}; wait until it has ended"
        )
    return parent


def _resume_point(parent: TrainingJob, checkpoints: CheckpointStore) -> ResumePoint:
    """The parent's objects, if they are what our trainer stored and our row names."""
    if parent.last_checkpoint_expired_at is not None:
        raise SpecError(
            f"resume_from={parent.job_id!r} cannot be resumed any more: its last.pt expired by the retention "
            f"policy on {parent.last_checkpoint_expired_at:%Y-%m-%d}; start a new training from its best.pt "
            f"with model={parent.best_checkpoint_path or checkpoints.uri(parent.job_id, 'best')!r}, and pin "
            "jobs that are to be resumed later"
        )
    last = checkpoints.head(parent.job_id, "last")
    if last is None:
        raise SpecError(
            f"resume_from={parent.job_id!r} has no last.pt in S3, so there is nothing to resume; it is "
            f"{parent.status}" + (f" ({parent.error})" if parent.error else "")
        )
    if last.checkpoint is None or last.checkpoint.position <= (-1, 0):
        raise SpecError(
            f"resume_from={parent.job_id!r}: {last.uri} holds nothing to resume, for it was not stored by "
            "this project or was stripped of its optimizer; start a new training with it as `model`"
        )
    if parent.last_checkpoint_sha256 not in {None, last.checkpoint.sha256}:
        raise SpecError(
            f"resume_from={parent.job_id!r}: {last.uri} has SHA-256 {last.checkpoint.sha256}, but "
            f"{parent.last_checkpoint_sha256} was recorded; somebody replaced it, so it is not continued"
        )
    if not _is_of(parent, last, parent.last_checkpoint_sha256):
        raise SpecError(
            f"resume_from={parent.job_id!r}: {last.uri} is of an earlier training of that name "
            f"({in_words(last.checkpoint.position)}); the present one is {parent.status} and stored nothing "
            "to resume"
        )
    best = checkpoints.head(parent.job_id, "best")
    if best is not None and not _is_of(parent, best, parent.best_checkpoint_sha256):
        best = None
    return ResumePoint(job_id=parent.job_id, last=last.checkpoint, best=best.checkpoint if best else None)


def _is_of(parent: TrainingJob, stored: StoredCheckpoint, recorded_sha256: str | None) -> bool:
    """The object belongs to the training that the row tells of, and not to one before it of the same name."""
    if recorded_sha256 is not None:
        return stored.checkpoint is not None and stored.checkpoint.sha256 == recorded_sha256
    return stored.run_id == parent.origin_run_id


def _spec_of(parent: TrainingJob) -> TrainingSpec:
    if not parent.spec:
        raise SpecError(
            f"resume_from={parent.job_id!r} was not trained here: its row has no parameters to continue with"
        )
    return TrainingSpec.stored(dict(parent.spec))


def _refuse_finished(spec: TrainingSpec, parent: TrainingJob, resume: ResumePoint) -> None:
    epochs = spec.epochs or parent.epochs
    done = resume.epoch + 1
    if spec.time is None and epochs is not None and epochs <= done:
        raise SpecError(
            f"epochs={epochs} leaves nothing to train: job {parent.job_id} has finished {done} epochs; "
            "give a larger epochs"
        )
