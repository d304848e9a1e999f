"""Uploads a training run's pictures to S3 after training. An S3 outage only delays the run's end."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from include.deployment.connections import open_bucket
from include.pictures.choosing import choose_pictures, rank_picture
from include.pictures.store import PictureStore
from include.s3.deadline import Deadline, obey_deadlines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from include.claim.resolved_job import ResolvedJob
    from include.deployment.settings import Settings

log = logging.getLogger(__name__)

_SECONDS = 30.0


def store_pictures(folder: Path, settings: Settings, job: ResolvedJob) -> None:
    """Upload the job's pictures from `folder`; if that fails, log the reason."""
    try:
        with _pictures(settings) as store:
            number = store.add(job.job_id, job.origin_run_id, choose_pictures(folder))
    except Exception as error:  # training does not depend on pictures
        log.warning("Not all pictures of job %s were stored: %s", job.job_id, error)
    else:
        log.info("Stored %d pictures of job %s.", number, job.job_id)


def remove_earlier_pictures(folder: Path, settings: Settings, job: ResolvedJob) -> None:
    """Remove the pictures of an earlier training run with the same job id, on this machine and in S3.

    S3 is searched only for a job that was started with fresh=true, because other jobs rarely have older
    pictures there.
    """
    for path in folder.glob("*"):
        if rank_picture(path.name):
            path.unlink(missing_ok=True)
    if job.spec.fresh:
        try:
            with _pictures(settings) as store:
                store.delete_others(job.job_id, job.origin_run_id)
        except Exception as error:  # training does not depend on pictures
            log.warning(
                "Pictures of an earlier training run of job %s may remain in S3: %s", job.job_id, error
            )


@contextmanager
def _pictures(settings: Settings) -> Iterator[PictureStore]:
    """Open the store; its requests fail once they have taken 30 seconds in total."""
    bucket = open_bucket(settings, interactive=True)
    obey_deadlines(bucket.client)
    deadline = Deadline(_SECONDS)
    with deadline.applied():
        yield PictureStore(bucket)
