"""Turns the parameters of a run into a job: validates them, adds defaults, and claims the job for the run."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.claim.free_job import find_free_job
from include.claim.ownership import find_owner, refuse_waiting_job
from include.claim.resolved_job import ResolvedJob, ResumePoint
from include.claim.resuming import find_initial_weights, inherit_from_parent
from include.datasets.errors import DatasetError
from include.datasets.reference import DatasetVersionName
from include.datasets.registered import parse_registered
from include.datasets.sources import parse_source
from include.deployment.retrying import is_transient
from include.jobs.claim import JobClaim
from include.jobs.spec import SpecError, TrainingSpec
from include.refusals import show_value
from include.registry.errors import DatasetUnknown

if TYPE_CHECKING:
    from include.checkpoints.store import CheckpointStore
    from include.checkpoints.stored import StoredCheckpoint
    from include.claim.claimant import Claimant, RunIdentity
    from include.claim.free_job import FreeJob
    from include.jobs.job import TrainingJob
    from include.jobs.ownership import JobOwnership
    from include.jobs.repository import JobRepository
    from include.jobs.spec import ResolvedSpec
    from include.weights.initial_weights import InitialWeights

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Start:
    """The parameters, state and weights with which the training of a job starts or continues."""

    spec: ResolvedSpec
    """The parameters, with all defaults."""
    resume: ResumePoint | None
    """The state of the job's parent, or the copy of that state under the job's own prefix."""
    weights: InitialWeights | None
    """The weights from which training starts or started; None if from scratch, or if unknown."""
    resumed_epoch: int | None
    """The last epoch in the parent's state, as recorded in the job's row."""


def resolve(params: Mapping[str, Any], claimant: Claimant) -> ResolvedJob:
    """Check `params`, and create the job's row for the claimant's run or take it over.

    Raises SpecError for unusable parameters, an exhausted quota, or a job that belongs to another user;
    RepositoryError for a row that cannot be claimed; OwnershipLost if the job was cancelled while this run
    waited; and StoreError if S3 fails. If a retry cannot help, the reason is also written into
    a row that waits for its first run, unless the job belongs to another user.

    The quota is that of the job's owner. If the job has to wait until other jobs of its owner end, its row is
    claimed and QuotaWait is raised.
    """
    run, jobs = claimant.run, claimant.jobs
    with reason_in_waiting_row(params.get("job_id"), run, jobs, claimant.ownership):
        found = find_free_job(params, claimant)
        owner = find_owner(found.row, run, claimant.ownership)
        quota = claimant.quotas.of(owner)
        if not found.has_begun(run.run_id):
            quota.require_hours()
        start = _find_start(found, claimant)
        quota.require_fitting(start.spec.device)
        job = _claim(found, start, run, owner, quota.find_gpu_limit(found.row, run.run_id), jobs)
    if job.waits_for_quota:
        raise quota.describe_wait(found.job_id)
    if start.resume is not None:
        jobs.copy_epochs(start.resume.job_id, found.job_id, start.resume.epoch)
    return ResolvedJob(
        job_id=found.job_id,
        dag_id=run.dag_id,
        run_id=run.run_id,
        origin_run_id=job.origin_run_id or run.run_id,
        spec=start.spec,
        resume=start.resume,
        weights=start.weights,
    )


def check(params: Mapping[str, Any], claimant: Claimant) -> str | None:
    """Raise the SpecError or StoreError that `resolve` would raise; write nothing and download no weights.

    Returns why the job would have to wait for other jobs of its owner; None if it would not.
    """
    found = find_free_job(params, claimant)
    quota = claimant.quotas.of(find_owner(found.row, claimant.run, claimant.ownership))
    if not found.has_begun(claimant.run.run_id):
        quota.require_hours()
    quota.require_fitting(found.spec.device)
    if found.row is not None and found.own is not None:
        _resume_spec(found.spec, found.row)
    elif found.spec.resume_from is not None:
        inherit_from_parent(found.spec, claimant)
    else:
        spec = _pin_dataset(found, claimant).with_defaults()
        _require_dataset_address(spec)
        claimant.finder.check(spec.model, spec.task, found.job_id)
    return quota.foresee_wait(found.job_id, found.spec.device)


@contextmanager
def reason_in_waiting_row(
    job_id: object, run: RunIdentity, jobs: JobRepository, ownership: JobOwnership
) -> Iterator[None]:
    """Write an error raised in the block into the job's row if the row still waits for its first run."""
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


def _find_start(found: FreeJob, claimant: Claimant) -> _Start:
    row, own = found.row, found.own
    if row is not None and own is not None:
        spec, resume = _resume_spec(found.spec, row), _find_seed(row, own, claimant.checkpoints)
        return _Start(spec, resume, find_initial_weights(row), row.resumed_epoch)
    if found.spec.resume_from is not None:
        inherited, parent, weights = inherit_from_parent(found.spec, claimant)
        return _Start(inherited.with_defaults(), parent, weights, parent.epoch)
    spec = _pin_dataset(found, claimant).with_defaults()
    return _Start(spec, None, claimant.finder.find(spec.model, spec.task, found.job_id), None)


def _claim(
    found: FreeJob,
    start: _Start,
    run: RunIdentity,
    owner: str | None,
    gpu_limit: int | None,
    jobs: JobRepository,
) -> TrainingJob:
    spec, weights, row = start.spec, start.weights, found.row
    recreated_run = f"{run.run_id[:200]} of {run.created_at:%Y-%m-%dT%H:%M:%SZ}"
    return jobs.claim(
        JobClaim(
            found.job_id,
            run.dag_id,
            run.run_id,
            spec=spec.model_dump(mode="json", exclude={"job_id"}),
            epochs=spec.epochs,
            parent_job_id=spec.resume_from or (weights.job_id if weights else None),
            resumed_epoch=start.resumed_epoch,
            triggered_by=owner,
            fresh=found.own is None,
            expected_run_id=row.run_id if row else None,
            origin_run_id=recreated_run if found.is_run_recreated else None,
            recreated=found.is_run_recreated,
            initial_weights_path=weights.path if weights else None,
            initial_weights_sha256=weights.sha256 if weights else None,
            queued_at=run.queued_at,
            dataset=_parse_pinned_version(spec),
            gpu_limit=gpu_limit,
            run_started_at=run.started_at,
        )
    )


def _pin_dataset(found: FreeJob, claimant: Claimant) -> TrainingSpec:
    """Return the spec with its dataset pinned to the current version, such as `parts@3` for `parts`.

    If no task is given, the version's task applies. If this run has claimed the job before, the version of
    that claim is kept, even if a newer one has been registered since. Raises SpecError.
    """
    row, spec = found.row, found.spec
    if row is not None and row.run_id == claimant.run.run_id and row.spec and not found.is_run_recreated:
        spec = spec.with_version_of(TrainingSpec.parse_stored(dict(row.spec)))
    named = parse_registered(spec.dataset or "")
    if named is None:
        return spec
    try:
        version = claimant.datasets.require(named)
    except DatasetUnknown as error:
        raise SpecError(str(error)).about("dataset") from None
    pinned = {"dataset": str(version), "task": spec.task or version.task}
    return TrainingSpec.parse_stored(spec.model_dump() | pinned)


def _parse_pinned_version(spec: ResolvedSpec) -> DatasetVersionName | None:
    """Return the dataset version in a pinned spec; None if its dataset is not registered."""
    named = parse_registered(spec.dataset)
    if named is None or named.version is None:
        return None
    return DatasetVersionName(name=named.name, version=named.version)


def _require_dataset_address(spec: ResolvedSpec) -> None:
    """Raise SpecError unless the dataset is registered or given by an address that can be used."""
    if parse_registered(spec.dataset) is not None:
        return
    try:
        parse_source(spec.dataset, spec.task)
    except DatasetError as refusal:
        raise SpecError(str(refusal)).about("dataset") from None


def _find_seed(row: TrainingJob, own: StoredCheckpoint, checkpoints: CheckpointStore) -> ResumePoint | None:
    """Return the copy of the parent's state under the job's prefix; None once it has stored its own.

    The job then no longer depends on the parent's objects.
    """
    # Earlier releases did not mark such copies, but copied only states from the end of an epoch.
    if own.checkpoint is None or not (own.seeded_from or own.checkpoint.position == (row.resumed_epoch, 0)):
        return None
    best = checkpoints.head(row.job_id, "best")
    belongs = best is not None and best.run_id == row.origin_run_id
    return ResumePoint(
        job_id=row.job_id, last=own.checkpoint, best=best.checkpoint if best and belongs else None
    )


def _resume_spec(spec: TrainingSpec, row: TrainingJob) -> ResolvedSpec:
    """Return the spec of a job that is resumed. Raises SpecError if `spec` differs from the first run's."""
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
            f"this run has {what}. Use the old values, set fresh=true to start over, or choose another job_id"
        ).about("job_id")
    return resolved


def _show_parameter(value: object) -> str:
    return "not given" if value is None else show_value(value)
