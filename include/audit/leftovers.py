"""Finding files that training runs left on this machine and that are no longer needed."""

from __future__ import annotations

import logging
import re
import shutil
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.audit.findings import AuditFinding, FindingKind
from include.audit.recorded import examine_object, list_job_objects
from include.checkpoints.checkpoint import CHECKPOINT_KINDS
from include.jobs.repository import JobRepository
from include.s3.location import JOB_ID
from include.trusted_folders import UntrustedFolder, require_trusted_folder

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from psycopg import Connection

    from include.audit.recorded import RecordedObject
    from include.jobs.job import TrainingJob

log = logging.getLogger(__name__)

OLD = timedelta(days=1)

JOB_FOLDERS = {"inputs", "runs", "snapshots", "watchdog"}
"""Folders that an attempt creates in its job's folder. A job's folder that contains anything else is kept."""


def find_leftovers(
    connection: Connection[Any], client: S3Client, training_root: Path, now: datetime, *, repair: bool
) -> Iterator[AuditFinding]:
    """Find folders no longer needed: their job completed, was stopped during training, or has no row.

    A folder that changed within the last day is kept. Folders of failed and active jobs are kept, because
    they may hold files that S3 does not have yet. Folders of jobs with `keep_local`, and of jobs whose
    objects in S3 are not intact, are kept too. The repair is to remove the folder. If another account on
    this machine could have tampered with `training_root`, this function examines nothing.
    """
    if not training_root.is_dir():
        return
    try:
        require_trusted_folder(training_root)
    except UntrustedFolder as error:
        log.warning("Local files are not audited: %s.", error)
        return
    jobs = JobRepository(connection)
    for folder in sorted(training_root.iterdir()):
        try:
            if not _is_job_folder(folder):
                continue
            size, modified = _measure(folder)
        except FileNotFoundError:  # a process is working in the folder
            continue
        if modified > now - OLD:
            continue
        job = jobs.get(folder.name)
        # Reading takes a while: in the meantime, a run may have claimed the job and started in this folder.
        if job is not None and not (_is_done(client, job) and jobs.get(folder.name) == job):
            continue
        why = (
            f"job {job.job_id} is {job.status} and its files are in S3"
            if job
            else "there is no row for that job"
        )
        yield AuditFinding(
            FindingKind.LEFTOVER,
            f"{folder} was left on this machine: {why}",
            folder.name if job else None,
            str(folder),
            size,
            remove_folder(folder) if repair else None,
        )


def _is_job_folder(folder: Path) -> bool:
    if not re.match(JOB_ID, folder.name) or folder.is_symlink() or not folder.is_dir():
        return False
    return set() < {child.name for child in folder.iterdir()} <= JOB_FOLDERS


def _measure(folder: Path) -> tuple[int, datetime]:
    """Return the total size of the folder's files, at any depth, and when the folder last changed."""
    size, newest = 0, folder.lstat().st_mtime
    for path in folder.rglob("*"):
        status = path.lstat()
        size += status.st_size if stat.S_ISREG(status.st_mode) else 0
        newest = max(newest, status.st_mtime)
    return size, datetime.fromtimestamp(newest, UTC)


def _is_done(client: S3Client, job: TrainingJob) -> bool:
    if not job.has_ended_well or (job.spec or {}).get("keep_local"):
        return False
    named = list_job_objects(job)
    missing = set(CHECKPOINT_KINDS) - {recorded.kind for recorded in named}
    is_complete = not missing or (missing == {"last"} and job.last_checkpoint_expired_at is not None)
    return is_complete and all(_is_intact(client, recorded) for recorded in named)


def _is_intact(client: S3Client, recorded: RecordedObject) -> bool:
    """Read the whole object, because the local file may be the only intact copy."""
    finding = examine_object(client, recorded, reread=True)
    if finding is not None:
        log.warning("%s: the local files of the job are kept.", finding.detail)
    return finding is None


def remove_folder(folder: Path) -> str | None:
    """Remove the folder; return "removed", or None if it could not be removed."""
    shutil.rmtree(folder, ignore_errors=True)
    return None if folder.exists() else "removed"
