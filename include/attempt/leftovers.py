"""Removes the files of earlier jobs from the machine that trains.

The uploads remove a job's files if they run on the machine that trained it, and the audit removes those on
its own machine. Workers need not share anything, so nothing else would free a machine that only trains.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from include.audit.leftovers import find_leftovers, remove_folder
from include.deployment.connections import create_s3_client, open_training_db

if TYPE_CHECKING:
    from include.deployment.settings import Settings

log = logging.getLogger(__name__)

MOST = 3
"""Maximum number of folders to remove after a training run, which leaves one itself. Each job's objects in S3
are read first, which takes a while."""


def remove_leftovers(settings: Settings) -> None:
    """Remove up to three folders that the audit would remove if it ran here, except those of unknown jobs.

    Another deployment may train on this machine in the same folder, and know these jobs. Errors are only
    logged, because they must not fail a training run that has ended.
    """
    root, now = settings.training_root, datetime.now(UTC)
    try:
        with open_training_db() as connection:
            client = create_s3_client(interactive=True)  # in an outage, the GPU must not wait for long
            found = find_leftovers(connection, client, root, now, repair=False)
            for finding in islice((finding for finding in found if finding.job_id), MOST):
                removed = remove_folder(Path(finding.path or ""))
                log.info("%s; %s.", finding.detail, removed or "it could not be removed")
    except Exception:
        log.warning("Could not look for files of earlier jobs in %s.", root, exc_info=True)
