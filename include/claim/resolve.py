"""Turns the parameters of a run into a job that it owns: validated, with defaults, and claimed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from include.checkpoints.checkpoint import in_words
from include.claim.named_dataset import pin_dataset, pinned_version
from include.claim.ownership import (
    find_owner,
    refuse_waiting_job,
    require_own_job,
    require_own_parent,
)
from include.claim.resolved_job import ResolvedJob, ResumePoint
from include.claim.resuming import (
    describe_activity,
    inherit_from_parent,
    initial_weights_of,
    is_owner_running,
)
from include.deployment.retrying import is_transient
from include.jobs.job import JobStatus
from include.jobs.spec import SpecError, TrainingSpec
from include.refusals import show_value

if TYPE_CHECKING:
    from include.checkpoints.store import CheckpointStore
    from include.checkpoints.stored import StoredCheckpoint
    from include.claim.quota import QuotaCheck
    from include.jobs.job import TrainingJob
    from include.jobs.ownership import JobOwnership
    from include.jobs.repository import JobRepository
    from include.jobs.spec import ResolvedSpec
    from include.registry.repository import DatasetRepository
    from include.weights.initial import InitialWeightsFinder
    from include.weights.initial_weights import InitialWeights

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunIdentity:
    """The Dag run that claims the job.

    triggered_by is None for a schedule; queued_at is when the run was queued, if known.
    """

    dag_id: str
    run_id: str
    created_at: datetime
    triggered_by: str | None
    queued_at: datetime | None = None


@dataclass(frozen=True)
class _FreeJob:
    """A requested job that the run may claim: its row, if there is one, and its stored state."""

    job_id: str
    spec: TrainingSpec
    row: TrainingJob | None
    own: StoredCheckpoint | None
    recreated: bool

    def has_begun(self, run_id: str) -> bool:
        """Return whether its training has begun, and this run does not start it over."""
        if self.own is not None:
            return True
        row = self.row
        if row is None or row.origin_run_id is None or row.started_at is None or self.recreated:
            return False
        return not self.spec.fresh or row.run_id == run_id


def resolve(
    params: Mapping[str, Any],
    run: RunIdentity,
    jobs: JobRepository,
    checkpoints: CheckpointStore,
    is_running: Callable[[str, str], bool],
    finder: InitialWeightsFinder,
    datasets: DatasetRepository,
    quotas: QuotaCheck,
    ownership: JobOwnership,
) -> ResolvedJob:
    """Check `params`, and create the job's row for `run` or take it over.

    is_running returns whether Airflow still runs a (dag_id, run_id). Raises SpecError for parameters that
    cannot be trained, a quota that is used up or somebody else's job, RepositoryError for a row that cannot
    be claimed, and StoreError for S3. A row that waits for its first run then contains the reason, unless it
    is somebody else's; any other row stays as it is. The quota is that of the job's owner: raises QuotaWait
    once the row is claimed if the job has to wait for others of its owner.
    """
    with reason_in_waiting_row(params.get("job_id"), run, jobs, ownership):
        found = _find_free(params, run, jobs, checkpoints, is_running, ownership)
        job_id, row, own = found.job_id, found.row, found.own
        owner = find_owner(row, run, ownership)
        quota = quotas.of(owner)
        if not found.has_begun(run.run_id):
            quota.require_hours()
        if row is not None and own is not None:
            spec, resume = _resume_spec(found.spec, row), _find_seed(row, own, checkpoints)
            resumed_epoch, weights = row.resumed_epoch, initial_weights_of(row)
        else:
            require_own_parent(found.spec, run, jobs, ownership)
            pinned = _pin_dataset(found, run, datasets)
            spec, resume, weights = _prepare_start(pinned, job_id, jobs, checkpoints, is_running, finder)
            resumed_epoch = resume.epoch if resume else None
        quota.require_fitting(spec.device)
        job = jobs.claim(
            job_id,
            dag_id=run.dag_id,
            run_id=run.run_id,
            spec=spec.model_dump(mode="json", exclude={"job_id"}),
            epochs=spec.epochs,
            parent_job_id=spec.resume_from or (weights.job_id if weights else None),
            resumed_epoch=resumed_epoch,
            triggered_by=owner,
            fresh=own is None,
            expected_run_id=row.run_id if row else None,
            origin_run_id=f"{run.run_id[:200]} of {run.created_at:%Y-%m-%dT%H:%M:%SZ}"
            if found.recreated
            else run.run_id,
            recreated=found.recreated,
            initial_weights_path=weights.path if weights else None,
            initial_weights_sha256=weights.sha256 if weights else None,
            queued_at=run.queued_at,
            dataset=pinned_version(spec),
            gpu_limit=quota.gpu_limit(row, run.run_id),
        )
    if job.waits_for_quota:
        raise quota.wait(job_id)
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


def check(
    params: Mapping[str, Any],
    run: RunIdentity,
    jobs: JobRepository,
    checkpoints: CheckpointStore,
    is_running: Callable[[str, str], bool],
    finder: InitialWeightsFinder,
    datasets: DatasetRepository,
    quotas: QuotaCheck,
    ownership: JobOwnership,
) -> str | None:
    """Raise the errors that `resolve` would raise, but write nothing and download no weights.

    These are SpecError and StoreError. Returns why the job would have to wait for others of its user, if so.
    """
    found = _find_free(params, run, jobs, checkpoints, is_running, ownership)
    quota = quotas.of(find_owner(found.row, run, ownership))
    if not found.has_begun(run.run_id):
        quota.require_hours()
    quota.require_fitting(found.spec.device)
    if found.row is not None and found.own is not None:
        _resume_spec(found.spec, found.row)
    elif found.spec.resume_from is not None:
        require_own_parent(found.spec, run, jobs, ownership)
        inherit_from_parent(found.spec, jobs, checkpoints, is_running)
    else:
        spec = _pin_dataset(found, run, datasets).with_defaults()
        finder.check(spec.model, spec.task, found.job_id)
    return quota.foresee_wait(found.job_id, found.spec.device)


def has_own_state(params: Mapping[str, Any], run: RunIdentity, jobs: JobRepository) -> bool:
    """Return whether the job that `params` name has stored a state, which must not be abandoned lightly."""
    try:
        spec = TrainingSpec.parse(dict(params))
    except SpecError:
        return False
    row = jobs.get(spec.job_id or _generated_job_id(spec, run))
    return row is not None and row.has_own_state


@contextmanager
def reason_in_waiting_row(
    job_id: object, run: RunIdentity, jobs: JobRepository, ownership: JobOwnership
) -> Iterator[None]:
    """Write an error of the block into the job's row if it still waits for its first run."""
    try:
        yield
    except Exception as error:
        # After an outage this task is retried, so the row stays queued.
        if (
            isinstance(job_id, str)
            and not is_transient(error)
            and refuse_waiting_job(job_id, str(error), run.triggered_by, jobs, ownership)
        ):
            log.info("Wrote the reason into the waiting row of job %s.", job_id)
        raise


def _find_free(
    params: Mapping[str, Any],
    run: RunIdentity,
    jobs: JobRepository,
    checkpoints: CheckpointStore,
    is_running: Callable[[str, str], bool],
    ownership: JobOwnership,
) -> _FreeJob:
    spec = TrainingSpec.parse(dict(params))
    job_id = spec.job_id or _generated_job_id(spec, run)
    row = jobs.get(job_id)
    if row is not None:
        require_own_job(row, run, spec, ownership)
        _refuse_unless_free(row, run, spec, is_running)
    recreated = row is not None and _was_recreated(row, run)
    own = None if row is None else _find_own_state(row, spec, run, checkpoints, recreated=recreated)
    if own is None and not spec.fresh and (row is None or row.origin_run_id is None):
        _refuse_orphaned_state(job_id, checkpoints)
    return _FreeJob(job_id, spec, row, own, recreated)


def _pin_dataset(found: _FreeJob, run: RunIdentity, datasets: DatasetRepository) -> TrainingSpec:
    """Return the parameters with the version of a registered dataset; a job that is resumed inherits it."""
    if found.spec.resume_from is not None:
        return found.spec
    row, started = found.row, None
    if row is not None and row.run_id == run.run_id and row.spec and not found.recreated:
        started = TrainingSpec.parse_stored(dict(row.spec))
    return pin_dataset(found.spec, datasets, started)


def _prepare_start(
    spec: TrainingSpec,
    job_id: str,
    jobs: JobRepository,
    checkpoints: CheckpointStore,
    is_running: Callable[[str, str], bool],
    finder: InitialWeightsFinder,
) -> tuple[ResolvedSpec, ResumePoint | None, InitialWeights | None]:
    """Return what a training run starts from: its parameters, its parent's state if any, and its weights."""
    if spec.resume_from is None:
        resolved = spec.with_defaults()
        return resolved, None, finder.find(resolved.model, resolved.task, job_id)
    spec, resume, weights = inherit_from_parent(spec, jobs, checkpoints, is_running)
    return spec.with_defaults(), resume, weights


def _generated_job_id(spec: TrainingSpec, run: RunIdentity) -> str:
    """Return a readable name that stays the same when the task is retried or cleared."""
    digest = hashlib.sha256(f"{run.dag_id}/{run.run_id}".encode()).hexdigest()[:6]
    return f"{spec.with_defaults().task}-{run.created_at:%Y%m%d-%H%M%S}-{digest}"


def _refuse_unless_free(
    row: TrainingJob, run: RunIdentity, spec: TrainingSpec, is_running: Callable[[str, str], bool]
) -> None:
    if (row.dag_id, row.run_id) == (run.dag_id, run.run_id):
        return
    if row.status == JobStatus.COMPLETED and not spec.fresh:
        raise SpecError(
            f"job_id={row.job_id!r} is completed already; give another job_id, or fresh=true to train it "
            f"again from the start, or a new job with resume_from={row.job_id!r} to train it longer"
        )
    if is_owner_running(row, is_running):
        raise SpecError(
            f"job_id={row.job_id!r} {describe_activity(row)} in run {row.run_id} of {row.dag_id}; wait for "
            "it, or give another job_id"
        )


def _was_recreated(row: TrainingJob, run: RunIdentity) -> bool:
    """Return whether the row's run was deleted and this is a new run with the same id."""
    same = (row.dag_id, row.run_id) == (run.dag_id, run.run_id)
    return same and row.updated_at is not None and row.updated_at < run.created_at


def _refuse_orphaned_state(job_id: str, checkpoints: CheckpointStore) -> None:
    """Raise SpecError if the job's state is in S3 although no row records it any more.

    Otherwise the training run would silently start from scratch.
    """
    stored = checkpoints.head(job_id, "last")
    if stored is not None and stored.checkpoint is not None and stored.run_id is not None:
        raise SpecError(
            f"job_id={job_id!r} has no training run recorded in training_jobs, but {stored.uri} holds its "
            f"state after {in_words(stored.checkpoint.position)}: its row was deleted or replaced. Restore "
            "the row to resume, give fresh=true to start over, or choose another job_id"
        )


def _find_own_state(
    row: TrainingJob,
    spec: TrainingSpec,
    run: RunIdentity,
    checkpoints: CheckpointStore,
    *,
    recreated: bool,
) -> StoredCheckpoint | None:
    """Return the stored state that this run resumes from; None if it starts from scratch.

    Raises SpecError if a state was stored but is gone, because a training run must not start over silently.
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
            f"job_id={row.job_id!r} stored its state after {in_words(row.durable)}, but "
            f"{checkpoints.uri(row.job_id, 'last')} {gone}; restore it, or give fresh=true to start over"
        )
    return None


def _find_seed(row: TrainingJob, own: StoredCheckpoint, checkpoints: CheckpointStore) -> ResumePoint | None:
    """Return the copy of the parent's state in the job's own prefix, if the job has no state of its own.

    The job then no longer depends on the parent's objects.
    """
    # Earlier versions did not mark seeds; their states were always of the end of an epoch.
    if own.checkpoint is None or not (own.seeded_from or own.checkpoint.position == (row.resumed_epoch, 0)):
        return None
    best = checkpoints.head(row.job_id, "best")
    belongs = best is not None and best.run_id == row.origin_run_id
    return ResumePoint(
        job_id=row.job_id, last=own.checkpoint, best=best.checkpoint if best and belongs else None
    )


def _resume_spec(spec: TrainingSpec, row: TrainingJob) -> ResolvedSpec:
    """Return the spec of a job that is resumed. Raises SpecError if parameters differ from its first run."""
    started = TrainingSpec.parse_stored(dict(row.spec or {}))
    if spec.resume_from is not None and spec.resume_from == row.parent_job_id:
        spec = spec.inherit_from(started)
    resolved = spec.with_spelling_of(started).with_defaults()
    before, now = started.identity(), resolved.identity()
    different = [name for name in dict.fromkeys([*before, *now]) if before.get(name) != now.get(name)]
    if different:
        what = "; ".join(
            f"{name}={_show_parameter(now.get(name))} instead of {_show_parameter(before.get(name))}"
            for name in different
        )
        raise SpecError(
            f"job_id={row.job_id!r} was interrupted and can only be resumed with the same parameters, but "
            f"{what}. Give the same ones, or fresh=true to start over, or another job_id"
        )
    return resolved


def _show_parameter(value: object) -> str:
    return "not given" if value is None else show_value(value)
