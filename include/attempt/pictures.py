"""A training's pictures go to S3 when it has ended; nothing waits long for them, and nothing fails."""

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
    """Let the pictures in the folder be those of the job. Where that fails, the log tells why."""
    try:
        bucket = open_bucket(settings, interactive=True)
        obey_deadlines(bucket.client)
        deadline = Deadline(_SECONDS)
        with deadline.applied():
            number = PictureStore(bucket).replace(job_id, origin_run_id, chosen(folder))
    except Exception as error:  # whatever it is, the training has nothing to do with it
        log.warning("The pictures of job %s were not stored, or not all of them: %s", job_id, error)
    else:
        log.info("Stored %d pictures of job %s.", number, job_id)


def remove_local_pictures(folder: Path) -> None:
    """Remove what an earlier training of the same name has drawn on this machine."""
    for path in folder.glob("*"):
        if place_of(path.name):
            path.unlink(missing_ok=True)
