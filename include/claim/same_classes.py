"""Ensures that a resumed training run uses data with the same classes, in the same order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from include.datasets.errors import DatasetError
from include.refusals import list_some

if TYPE_CHECKING:
    from include.checkpoints.store import CheckpointStore
    from include.claim.resolved_job import ResolvedJob
    from include.datasets.reference import DatasetReference

_NAMED = 30
"""Maximum number of classes listed in an error; a difference beyond that list is described separately."""

_SINGLE = ("item",)
"""Ultralytics' name of the single class into which `single_cls` merges all classes."""

_BACKGROUND = ("background",)
"""The class that Ultralytics adds to semantic data without masks, for pixels outside all outlines."""


def require_same_classes(job: ResolvedJob, dataset: DatasetReference, checkpoints: CheckpointStore) -> None:
    """Compare the dataset's classes with those of the state that the job resumes from, if there is one.

    The state is inspected in S3; neither the state nor PyTorch is loaded. Raises DatasetError, with both
    lists of classes, if a class is missing, new or renumbered; also raises StoreErrors.
    """
    trained, uri = _find_state(job, checkpoints)
    if uri is None or job.spec.task == "depth":  # depth data have names, but no classes
        return
    before = checkpoints.require_checkpoint(uri).classes
    now = _find_classes(job, dataset)
    drawn = now + _BACKGROUND if job.spec.task == "semantic" and len(now) > 1 else now
    if before in {now, drawn}:
        return
    raise DatasetError(
        f"{trained} was trained on {_list_classes(before)}, but dataset={dataset.source!r} has "
        f"{_list_classes(now)}{_describe_difference(before, now)}. A training run can continue only with the "
        "same classes in the same order: restore them, or start a new training run with that job's best.pt "
        "as `model`"
    )


def _find_state(job: ResolvedJob, checkpoints: CheckpointStore) -> tuple[str, str | None]:
    if job.resume is not None:
        return f"job {job.resume.job_id}, from which this job resumes,", job.resume.last.path
    own = checkpoints.head(job.job_id, "last")
    belongs = own is not None and own.checkpoint is not None and own.run_id == job.origin_run_id
    return f"job {job.job_id!r}", own.uri if own and belongs else None


def _find_classes(job: ResolvedJob, dataset: DatasetReference) -> tuple[str, ...]:
    if (job.spec.overrides or {}).get("single_cls"):
        return _SINGLE
    return tuple(name for _, name in sorted(dataset.classes.items()))


def _list_classes(classes: Sequence[str]) -> str:
    noun = "class" if len(classes) == 1 else "classes"
    return f"{len(classes)} {noun} ({list_some(classes, _NAMED)})"


def _describe_difference(before: Sequence[str], now: Sequence[str]) -> str:
    """Return the first difference as a clause, unless it is among the listed classes."""
    pairs = zip((*before, None), (*now, None), strict=False)
    number, (was, is_) = next((n, pair) for n, pair in enumerate(pairs) if pair[0] != pair[1])
    return "" if number < _NAMED else f"; class {number} was {was or 'none'} and is {is_ or 'none'}"
