"""Uploads a training run's pictures to S3 when it has ended; a failure or outage never affects the run."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from include.deployment.connections import open_bucket
from include.pictures.choosing import chosen, place_of
from include.pictures.store import PictureStore
from include.s3.deadline import Deadline, obey_deadlines

if TYPE_CHECKING:
    from pathlib import Path

    from include.deployment.settings import Settings

log = logging.getLogger(__name__)

_SECONDS = 30.0


def store_pictures(folder: Path, settings: Settings, job_id: str, origin_run_id: str) -> None:
    """Replace the job's stored pictures with those in the folder; log why if that fails."""
    try:
        bucket = open_bucket(settings, interactive=True)
        obey_deadlines(bucket.client)
        deadline = Deadline(_SECONDS)
        with deadline.applied():
            number = PictureStore(bucket).replace(job_id, origin_run_id, chosen(folder))
    except Exception as error:  # the training does not depend on it
        log.warning("Not all pictures of job %s were stored: %s", job_id, error)
    else:
        log.info("Stored %d pictures of job %s.", number, job_id)


def remove_local_pictures(folder: Path) -> None:
    """Remove the pictures that an earlier training run of the same name left on this machine."""
    for path in folder.glob("*"):
        if place_of(path.name):
            path.unlink(missing_ok=True)
