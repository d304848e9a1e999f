"""Downloads of checkpoints through signed links to S3, so that no file passes through this server."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import APIRouter
from fastapi.responses import RedirectResponse

from include.api.access import require_can_see_runs
from include.api.deployment import CurrentSettings, InteractiveBucket
from include.api.jobs import FoundJob
from include.api.problems import ProblemError, describe_errors
from include.checkpoints.checkpoint import CheckpointKind
from include.checkpoints.store import CheckpointStore
from include.deployment.connections import create_s3_signer
from include.jobs.job import TRAINING_DAG
from include.s3.signed_links import sign_download

if TYPE_CHECKING:
    from include.checkpoints.stored import StoredCheckpoint
    from include.jobs.job import TrainingJob
    from include.s3.bucket import Bucket
    from include.s3.location import S3Location

LINK_SECONDS = 300
"""Long enough to copy and paste a link. S3 checks the expiry only when a download starts."""

router = APIRouter(prefix="/jobs", tags=["checkpoints"], dependencies=[require_can_see_runs(TRAINING_DAG)])


@router.get(
    "/{job_id}/checkpoints/{kind}",
    status_code=HTTPStatus.TEMPORARY_REDIRECT,
    response_class=RedirectResponse,
    responses=describe_errors(HTTPStatus.NOT_FOUND),
)
def download_checkpoint(
    job: FoundJob, kind: CheckpointKind, settings: CurrentSettings, bucket: InteractiveBucket
) -> RedirectResponse:
    """Redirect to best.pt or last.pt in S3, with a link that is valid for five minutes.

    For a running or failed job, the file is the newest checkpoint that was verified in S3.
    """
    location = _find(bucket, job, kind)
    signer = create_s3_signer(settings.s3_public_endpoint)
    link = sign_download(signer, location, f"{job.job_id}-{kind}.pt", LINK_SECONDS)
    return RedirectResponse(link, HTTPStatus.TEMPORARY_REDIRECT)


def _find(bucket: Bucket, job: TrainingJob, kind: CheckpointKind) -> S3Location:
    """Return the location of the checkpoint, or raise ProblemError with the reason why there is none."""
    recorded = job.get_checkpoint(kind)
    if recorded is None and kind == "last" and (expired := job.last_checkpoint_expired_at):
        raise _explain_no_checkpoint(
            job, kind, f"the retention policy deleted it on {expired:%Y-%m-%d}; best.pt is kept"
        )
    store = CheckpointStore(bucket)
    try:
        location = store.locate(job.job_id, kind)
    except ValueError as error:
        raise ProblemError(HTTPStatus.NOT_FOUND, str(error)) from None
    if recorded is not None and recorded.path != location.uri:
        raise _explain_no_checkpoint(
            job, kind, f"it is recorded at {recorded.path}, not at {location.uri}: download the recorded file"
        )
    stored = store.head(job.job_id, kind)
    reason = _explain_missing(job, stored) if recorded is None else _explain_mismatch(stored, recorded.sha256)
    if reason is not None:
        raise _explain_no_checkpoint(job, kind, reason)
    return location


def _explain_missing(job: TrainingJob, stored: StoredCheckpoint | None) -> str | None:
    """Return why an unrecorded checkpoint cannot be downloaded; None if this training run stored it."""
    if stored is None:
        return f"none has been stored yet, and the job is {job.status}"
    if job.origin_run_id is None or (stored.job_id, stored.run_id) != (job.job_id, job.origin_run_id):
        return "the object at this key belongs to another training run; this training run has not stored one"
    return None


def _explain_mismatch(stored: StoredCheckpoint | None, sha256: str | None) -> str | None:
    """Return why the recorded checkpoint cannot be downloaded: it is gone, or its hash differs."""
    if stored is None:
        return "it was recorded, but is no longer in S3"
    if sha256 is not None and (stored.checkpoint is None or stored.checkpoint.sha256 != sha256):
        return "it was recorded, but has since been replaced in S3 by another file"
    return None


def _explain_no_checkpoint(job: TrainingJob, kind: CheckpointKind, reason: str) -> ProblemError:
    return ProblemError(HTTPStatus.NOT_FOUND, f"Job {job.job_id} has no {kind}.pt to download: {reason}")
