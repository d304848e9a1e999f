"""Uploads and verifies the files of the manifest: at the end of `train`, and in the tasks after it."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from include.deployment.retrying import treat_refusals_as_temporary
from include.s3.errors import LocalFileMissing
from include.trusted_folders import require_trusted_folder

if TYPE_CHECKING:
    from include.attempt.manifest import TrainingManifest
    from include.checkpoints.checkpoint import Checkpoint, CheckpointKind
    from include.checkpoints.store import CheckpointStore
    from include.deployment.settings import Settings

log = logging.getLogger(__name__)

_NEW = timedelta(hours=1)
"""Within this time after its upload, an object is taken to be as S3 verified it."""


@treat_refusals_as_temporary()
def publish_final(manifest: TrainingManifest, store: CheckpointStore) -> None:
    """Upload the files that the publisher has not uploaded, so that upload tasks can run on any machine."""
    for checkpoint, kind in manifest.list_checkpoints():
        store.upload(checkpoint, manifest.job_id, kind, manifest.ultralytics_version, keep_parts=True)


@treat_refusals_as_temporary()
def upload(
    manifest: TrainingManifest, kind: CheckpointKind, store: CheckpointStore, settings: Settings
) -> Checkpoint:
    """Make the manifest's checkpoint of this kind durable and return it with its s3:// path.

    Nothing is uploaded if S3 already has the right bytes. If the task is cleared long after training, a
    damaged object is replaced by this machine's file. The upload that ends last finds both files in S3.
    Unless `keep_local` is set, it removes the job's files from its machine. Raises UntrustedFolder if another
    account of this machine could have created the files to upload.
    """
    local = manifest.best if kind == "best" else manifest.last
    uri = store.build_uri(manifest.job_id, kind)
    if _is_durable(manifest, kind, local, store, settings):
        log.info("%s already has these bytes; nothing to upload.", uri)
    else:
        _require_own(local, kind, settings.find_run_folder(manifest.job_id))
        is_damaged = store.holds(manifest.job_id, kind, local)
        store.upload(
            local,
            manifest.job_id,
            kind,
            manifest.ultralytics_version,
            keep_previous=not is_damaged,
            replace_damaged=is_damaged,
        )
    if not manifest.keep_local and all(
        _is_durable(manifest, kind, file, store, settings) for file, kind in manifest.list_checkpoints()
    ):
        folder = settings.find_job_folder(manifest.job_id)
        shutil.rmtree(folder, ignore_errors=True)
        log.info("Both checkpoints are verified in S3; removed the local files in %s.", folder)
    return replace(local, path=uri)


def _is_durable(
    manifest: TrainingManifest,
    kind: CheckpointKind,
    local: Checkpoint,
    store: CheckpointStore,
    settings: Settings,
) -> bool:
    """Return whether S3 has the file.

    An object that is not new, of which this machine still has the file, is read: its bytes may have been
    damaged since S3 verified them, and this file may be the only intact copy.
    """
    stored = store.head(manifest.job_id, kind)
    if stored is None or not stored.is_the_same_as(local):
        return False
    is_new = datetime.now(UTC) - stored.modified < _NEW
    own = settings.find_run_folder(manifest.job_id) / "weights" / f"{kind}.pt"
    return is_new or not own.is_file() or store.is_intact(manifest.job_id, kind, local)


def _require_own(local: Checkpoint, kind: CheckpointKind, run_folder: Path) -> None:
    """Raise LocalFileMissing unless `local` is where this machine keeps the job's file of this kind.

    The manifest is an XCom, which users may edit; it may also come from a machine with another TRAINING_ROOT.
    """
    if os.path.lexists(run_folder):
        require_trusted_folder(run_folder)
    own = run_folder.resolve() / "weights" / f"{kind}.pt"
    if Path(local.path).resolve() != own:
        raise LocalFileMissing(
            f"{kind}.pt of this training run (SHA-256 {local.sha256}) is not in S3, and {local.path} is not "
            f"the path at which this machine keeps that file ({own}); clear the task `train` of this run to "
            "create it again"
        )
